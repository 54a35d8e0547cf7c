"""A sweep in pictures: accuracy, or log-loss, by step, by learning rate, by the adapted layers, by batch size."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rl.monitoring.best_effort import best_effort
from rl.monitoring.figure_file import new_figure, write_figure
from rl.sweep.conclusions import SettingResults, best, by_batch, by_kind, by_layers, comparable, pluralize, settings_of
from rl.sweep.results import Result

MOST_LEVEL = 6
"""Numbers below an axis that are written level."""


def draw_all(results: Sequence[Result], title: str, directory: Path) -> list[Path]:
    """Draw what there is something to draw of; the files."""
    settings = settings_of(results)
    files: list[Path] = []
    for draw, shown, name in (
        (_by_step, comparable(settings), "by-step.png"),
        (_by_rate, comparable(settings), "by-rate.png"),
        (_by_layers, settings, "by-layers.png"),
        (_by_batch, settings, "by-batch.png"),
    ):
        with best_effort(f"{name} could not be drawn"):
            file = draw(shown, title, directory / name)
            files += [] if file is None else [file]
    return files


def _kinds(settings: Sequence[SettingResults]) -> list[tuple[str, list[SettingResults], Any]]:
    """By rank, lowest first and full fine-tuning last: its name, its settings, its colour."""
    from matplotlib import colormaps

    groups = by_kind(settings)
    ranks = [name for name in groups if name.startswith("rank")]
    shades: Any = colormaps["viridis"]
    colours = {name: shades(0.05 + 0.8 * i / max(1, len(ranks) - 1)) for i, name in enumerate(ranks)}
    return [(name, group, colours.get(name, "black")) for name, group in groups.items()]


def _by_step(settings: Sequence[SettingResults], title: str, file: Path) -> Path | None:
    """Each rank at its best rate: the mean of the seeds, and their range."""
    if not settings:
        return None
    figure, axes = _figure(f"{title}: each at its best learning rate", "step", _words(settings))
    for name, group, colour in _kinds(settings):
        chosen = best(group)
        if chosen is None:
            continue
        steps, low, mean, high = _band(chosen)
        label = f"{name}, lr {chosen.representative.lr:g} ({pluralize(len(chosen.results), 'seed')})"
        axes.plot(steps, mean, color=colour, linewidth=2, label=label, linestyle="--" if colour == "black" else "-")
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    return _saved(figure, axes, file)


def _band(setting: SettingResults) -> tuple[list[int], list[float], list[float], list[float]]:
    """Return the steps that all seeds reached, and there the lowest seed's value, the mean and the highest's."""
    curves = [dict(result.curve) for result in setting.results]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    values = [[curve[step] for curve in curves] for step in steps]
    return steps, [min(v) for v in values], [fmean(v) for v in values], [max(v) for v in values]


def _by_rate(settings: Sequence[SettingResults], title: str, file: Path) -> Path | None:
    if len({s.representative.lr for s in settings}) < 2:
        return None
    figure, axes = _figure(f"{title}: final {_short(settings)} by learning rate", "learning rate", _words(settings))
    axes.set_xscale("log")
    for name, group, colour in _kinds(settings):
        by_rate = {
            lr: best([s for s in group if s.representative.lr == lr])
            for lr in sorted({s.representative.lr for s in group})
        }
        points = [(lr, s) for lr, s in by_rate.items() if s is not None]
        axes.plot(
            [lr for lr, _ in points], [s.mean for _, s in points], color=colour, marker="o", linewidth=2, label=name,
            linestyle="--" if colour == "black" else "-",
        )  # fmt: skip
        for lr, s in points:
            axes.vlines(lr, min(s.values), max(s.values), color=colour, alpha=0.4, linewidth=1.5)
    _ticks(axes, sorted({s.representative.lr for s in settings}))
    return _saved(figure, axes, file)


def _by_layers(settings: Sequence[SettingResults], title: str, file: Path) -> Path | None:
    chosen = by_layers(settings)
    if len(chosen) < 2:
        return None
    figure, axes = _figure(f"{title}: which layers are adapted, at about equal parameters", "", _words(settings))
    labels: list[str] = []
    for x, (name, setting) in enumerate(chosen.items()):
        result = setting.representative
        axes.bar(x, setting.mean, width=0.6, color="0.8")
        axes.plot([x] * len(setting.values), setting.values, "o", color="tab:green")
        labels.append(f"{name}, rank {result.rank}\n{result.trained_parameters:,} parameters\nlr {result.lr:g}")
    axes.set_xticks(range(len(chosen)), labels)
    return _saved(figure, axes, file, legend=False)


def _by_batch(settings: Sequence[SettingResults], title: str, file: Path) -> Path | None:
    chosen = by_batch(settings)
    if not chosen:
        return None
    heading = f"{title}: final {_short(settings)} by batch size, each at its best rate"
    figure, axes = _figure(heading, "problems a step", _words(settings))
    axes.set_xscale("log")
    for name, group, colour in _kinds([setting for sizes in chosen.values() for setting in sizes.values()]):
        points = sorted(group, key=lambda setting: setting.representative.problems_per_step)
        sizes = [setting.representative.problems_per_step for setting in points]
        axes.plot(sizes, [setting.mean for setting in points], color=colour, marker="o", label=name)
        for size, setting in zip(sizes, points, strict=True):
            axes.vlines(size, min(setting.values), max(setting.values), color=colour, alpha=0.4)
    _ticks(axes, sorted({setting.representative.problems_per_step for setting in settings}))
    return _saved(figure, axes, file)


def _ticks(axes: Any, values: Sequence[float]) -> None:
    """At the values that there are, in plain numbers; where they are many, those of neighbours must not meet."""
    axes.set_xticks(values, [f"{value:g}" for value in values], rotation=45 if len(values) > MOST_LEVEL else 0)
    axes.set_xticks([], minor=True)


def _words(settings: Sequence[SettingResults]) -> str:
    """Return what to call the metric that the runs are compared by."""
    return settings[0].representative.metric.words


def _short(settings: Sequence[SettingResults]) -> str:
    return _words(settings).removeprefix("held-out ")


def _figure(title: str, x: str, y: str) -> tuple[Any, Any]:
    figure = new_figure(7.5, 4.5)
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def _saved(figure: Any, axes: Any, file: Path, *, legend: bool = True) -> Path:
    axes.set_ylim(bottom=0)
    if legend:
        axes.legend(frameon=False, fontsize="small")
    write_figure(figure, file)
    return file
