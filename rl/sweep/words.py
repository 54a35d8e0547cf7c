"""What a sweep showed, in words. Nothing is claimed of a setting with fewer than three seeds."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rl.sweep.results import Result

SEEDS = 3
"""Of a setting, before anything is said about it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, run with several seeds; accuracies are final ones on held-out problems."""

    results: list[Result]

    @property
    def accuracies(self) -> list[float]:
        return [result.final_accuracy for result in self.results if result.final_accuracy is not None]

    @property
    def mean(self) -> float:
        return fmean(self.accuracies)

    @property
    def one(self) -> Result:
        """Any of its runs: they differ in the seed alone."""
        return self.results[0]

    @property
    def enough(self) -> bool:
        """Whether something may be said about it."""
        return len({result.seed for result in self.results if result.final_accuracy is not None}) >= SEEDS

    def __str__(self) -> str:
        named = ", ".join(f"{name} = {_shown(value)}" for name, value in self.one.settings.items() if name != "seed")
        return named or "the base's settings"

    def figures(self) -> str:
        """Mean, least and most."""
        return (
            f"{self.mean:.3f} ({min(self.accuracies):.3f} to {max(self.accuracies):.3f}, {len(self.accuracies)} seeds)"
        )


def settings_of(results: Sequence[Result]) -> list[Setting]:
    """The runs that were evaluated, those that differ in the seed alone together."""
    found: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        if result.final_accuracy is not None:
            found[repr([item for item in sorted(result.settings.items()) if item[0] != "seed"])].append(result)
    return [Setting(group) for group in found.values()]


def best(settings: Sequence[Setting]) -> Setting | None:
    """The one with the highest mean."""
    return max(settings, key=lambda setting: setting.mean, default=None)


def kind(result: Result) -> str:
    """`rank 4` or `full fine-tuning`."""
    return "full fine-tuning" if result.weights == "full" else f"rank {result.rank}"


def conclusions(results: Sequence[Result]) -> list[str]:
    """Lines for the end of a sweep."""
    everything = settings_of(results)
    settings = [setting for setting in everything if setting.enough]
    lines: list[str] = []
    if (winner := best(settings)) is not None:
        lines.append(f"best of {len(settings)} settings: {winner}: final held-out accuracy {winner.figures()}")
        if close := [other for other in settings if other is not winner and not _below(other, winner)]:
            lines.append(
                f"not told apart from it, because their seeds' ranges overlap: {_count(len(close), 'setting')}"
            )
        lines += _by("", kind, settings) + _by("layers ", lambda result: result.layers, settings)
        lines += _by("batch ", lambda result: str(result.problems_per_step), settings)
        lines += _rates(settings)
    if few := len(everything) - len(settings):
        lines.append(
            f"too few seeds: {_count(few, 'setting')} with fewer than {SEEDS} of them, of which nothing is said"
        )
    ends = {
        ended: sum(result.ended == ended for result in results) for ended in ("stopped_early", "collapsed", "failed")
    }
    lines += [f"{_count(count, 'run')} {ended.replace('_', ' ')}" for ended, count in ends.items() if count]
    return lines


def _by(word: str, part: Callable[[Result], str], settings: Sequence[Setting]) -> list[str]:
    """The best setting of each part, where there are several."""
    parts = list(dict.fromkeys(part(setting.one) for setting in settings))
    if len(parts) < 2:
        return []
    found = [(name, best([setting for setting in settings if part(setting.one) == name])) for name in parts]
    return [
        f"{word}{name}: best {setting.figures()} at lr {setting.one.lr:g}, "
        f"{setting.one.trained_parameters:,} parameters"
        for name, setting in found
        if setting is not None
    ]


def _rates(settings: Sequence[Setting]) -> list[str]:
    """How LoRA's best learning rate compares with full fine-tuning's."""
    full = best([setting for setting in settings if setting.one.weights == "full"])
    lora = best([setting for setting in settings if setting.one.weights == "lora"])
    if full is None or lora is None:
        return []
    ratio = lora.one.lr / full.one.lr
    return [f"LoRA's best learning rate is {ratio:.3g} times full fine-tuning's ({lora.one.lr:g} to {full.one.lr:g})"]


def _below(one: Setting, other: Setting) -> bool:
    return max(one.accuracies) < min(other.accuracies)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
