"""A sweep's conclusions, in words. Nothing is claimed of a setting with fewer than three seeds."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rl.sweep.results import Result

SEEDS = 3
"""Seeds of a setting, before anything is said about it."""


@dataclass(frozen=True, slots=True)
class SettingResults:
    """One setting, run with several seeds; values are of the metric that compares runs, at their last evaluation."""

    results: list[Result]

    @property
    def values(self) -> list[float]:
        return [result.final_value for result in self.results if result.final_value is not None]

    @property
    def scores(self) -> list[float]:
        """Return the same, higher being better."""
        return [self.representative.metric.score(value) for value in self.values]

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def representative(self) -> Result:
        """Any of its runs: they differ in the seed alone."""
        return self.results[0]

    @property
    def enough(self) -> bool:
        """True if something may be said about it."""
        return len({result.seed for result in self.results if result.final_value is not None}) >= SEEDS

    def __str__(self) -> str:
        named = ", ".join(
            f"{name} = {_shown(value)}" for name, value in self.representative.settings.items() if name != "seed"
        )
        return named or "the base's settings"

    def figures(self) -> str:
        """Mean, least and most."""
        least, most, seeds = min(self.values), max(self.values), pluralize(len(self.values), "seed")
        return f"{self.mean:.3f} ({least:.3f} to {most:.3f}, {seeds})"


def settings_of(results: Sequence[Result]) -> list[SettingResults]:
    """The runs that were evaluated, those that differ in the seed alone together."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        if result.final_value is not None:
            groups[repr([item for item in sorted(result.settings.items()) if item[0] != "seed"])].append(result)
    return [SettingResults(group) for group in groups.values()]


def best(settings: Sequence[SettingResults]) -> SettingResults | None:
    """Return the one with the best mean; None if there are none."""
    return max(settings, key=lambda setting: fmean(setting.scores), default=None)


def kind(result: Result) -> str:
    """`rank 4`, `13 numbers` or `full fine-tuning`."""
    if result.weights == "full":
        return "full fine-tuning"
    return f"{result.trained_parameters:,} numbers" if result.lora_kind == "tiny" else f"rank {result.rank}"


def comparable(settings: Sequence[SettingResults]) -> list[SettingResults]:
    """Return those with the layers and the batch size that most have: the others would mix two questions into one."""
    lora = [s.representative for s in settings if s.representative.weights == "lora"] or [
        s.representative for s in settings
    ]
    layers = _commonest([result.layers for result in lora])
    batch = _commonest([result.problems_per_step for result in lora])
    return [
        s
        for s in settings
        if s.representative.problems_per_step == batch
        and (s.representative.weights == "full" or s.representative.layers in (layers, "every weight"))
    ]


def by_kind(settings: Sequence[SettingResults]) -> dict[str, list[SettingResults]]:
    """By TinyLoRA's numbers and then by rank, the lowest first, and full fine-tuning last."""

    def size(setting: SettingResults) -> tuple[bool, bool, int]:
        result = setting.representative
        is_tiny = result.lora_kind == "tiny"
        return result.weights == "full", not is_tiny, result.trained_parameters if is_tiny else result.rank

    ordered = sorted(settings, key=size)
    return {
        name: [s for s in ordered if kind(s.representative) == name]
        for name in dict.fromkeys(kind(s.representative) for s in ordered)
    }


def by_layers(settings: Sequence[SettingResults]) -> dict[str, SettingResults]:
    """Each set of layers at its best rate; of several ranks, the one with about as many parameters as the others."""
    lora = [s for s in settings if (s.representative.weights, s.representative.lora_kind) == ("lora", "lora")]
    batch = _commonest([s.representative.problems_per_step for s in lora])
    lora = [s for s in lora if s.representative.problems_per_step == batch]
    common = _commonest([s.representative.layers for s in lora])
    others = [s.representative.trained_parameters for s in lora if s.representative.layers != common]
    chosen_by_layers: dict[str, SettingResults] = {}
    for layers in dict.fromkeys(s.representative.layers for s in lora) if others else ():
        candidates = [s for s in lora if s.representative.layers == layers]
        size = min(
            (s.representative.trained_parameters for s in candidates), key=lambda count: abs(count - fmean(others))
        )
        chosen = best([s for s in candidates if s.representative.trained_parameters == size])
        assert chosen is not None
        chosen_by_layers[layers] = chosen
    return chosen_by_layers


def by_batch(settings: Sequence[SettingResults]) -> dict[str, dict[int, SettingResults]]:
    """Each batch size at its best rate, by kind, for the kinds that have several."""
    layers = _commonest([s.representative.layers for s in settings if s.representative.weights == "lora"])
    by_kind_and_size: dict[str, dict[int, SettingResults]] = {}
    for name, group in by_kind([s for s in settings if s.representative.layers in (layers, "every weight")]).items():
        sizes = {size: best([s for s in group if s.representative.problems_per_step == size]) for size in _sizes(group)}
        if len(sizes) > 1:
            by_kind_and_size[name] = {size: setting for size, setting in sizes.items() if setting is not None}
    return by_kind_and_size


def _sizes(settings: Sequence[SettingResults]) -> list[int]:
    return sorted({setting.representative.problems_per_step for setting in settings})


def _commonest(values: Sequence[Any]) -> Any:
    return max(dict.fromkeys(values), key=values.count, default=None)


def conclusions(results: Sequence[Result]) -> list[str]:
    """Lines for the end of a sweep."""
    everything = settings_of(results)
    settings = [setting for setting in everything if setting.enough]
    lines: list[str] = []
    if (winner := best(settings)) is not None:
        lines.append(
            f"best of {len(settings)} settings: {winner}: final {winner.representative.metric.words} {winner.figures()}"
        )
        if close := [setting for setting in settings if setting is not winner and not _below(setting, winner)]:
            lines.append(
                f"not told apart from it, because their seeds' ranges overlap: {pluralize(len(close), 'setting')}"
            )
        lines += _each("", {name: best(group) for name, group in by_kind(comparable(settings)).items()})
        lines += _each("layers ", by_layers(settings))
        for name, sizes in by_batch(settings).items():
            lines += _each(f"{name}, batch ", {str(size): setting for size, setting in sizes.items()})
        lines += _rates([s for s in comparable(settings) if s.representative.lora_kind == "lora"])
    if few := len(everything) - len(settings):
        lines.append(
            f"too few seeds: {pluralize(few, 'setting')} with fewer than {SEEDS} of them, of which nothing is said"
        )
    ends = {
        ended: sum(result.ended == ended for result in results) for ended in ("stopped_early", "collapsed", "failed")
    }
    lines += [f"{pluralize(count, 'run')} {ended.replace('_', ' ')}" for ended, count in ends.items() if count]
    return lines


def _each(word: str, settings: Mapping[str, SettingResults | None]) -> list[str]:
    """A line for each, where there are several."""
    return [
        f"{word}{name}: best {setting.figures()} at lr {setting.representative.lr:g}, "
        f"{setting.representative.trained_parameters:,} parameters"
        for name, setting in settings.items()
        if setting is not None and len(settings) > 1
    ]


def _rates(settings: Sequence[SettingResults]) -> list[str]:
    """Return a line that compares LoRA's best learning rate with full fine-tuning's."""
    full = best([setting for setting in settings if setting.representative.weights == "full"])
    lora = best([setting for setting in settings if setting.representative.weights == "lora"])
    if full is None or lora is None:
        return []
    for name, weights, chosen in (("LoRA", "lora", lora), ("full fine-tuning", "full", full)):
        tried = sorted({setting.representative.lr for setting in settings if setting.representative.weights == weights})
        if chosen.representative.lr in (tried[0], tried[-1]):
            return [f"nothing is said of LoRA's rate against full fine-tuning's: {name}'s best is at its grid's edge"]
    ratio = lora.representative.lr / full.representative.lr
    rates = f"{lora.representative.lr:g} to {full.representative.lr:g}"
    return [f"LoRA's best learning rate is {ratio:.3g} times full fine-tuning's ({rates})"]


def _below(worse: SettingResults, better: SettingResults) -> bool:
    return max(worse.scores) < min(better.scores)


def pluralize(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
