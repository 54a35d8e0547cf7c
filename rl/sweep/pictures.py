"""A sweep in pictures: accuracy by step, by learning rate, by the layers that are adapted, by batch size."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rl.sweep.results import Result
from rl.sweep.words import Setting, best, kind, settings_of

ACCURACY = "held-out accuracy"


def draw_all(results: Sequence[Result], title: str, directory: Path) -> list[Path]:
    """Draw what there is something to draw of; the files."""
    settings = settings_of(results)
    alike = _most_alike(settings)
    drawn = [
        _by_step(alike, title, directory / "by-step.png"),
        _by_rate(alike, title, directory / "by-rate.png"),
        _by_layers(settings, title, directory / "by-layers.png"),
        _by_batch(settings, title, directory / "by-batch.png"),
    ]
    return [file for file in drawn if file is not None]


def _most_alike(settings: Sequence[Setting]) -> list[Setting]:
    """Those with the layers and the batch size that most have: the others would mix two questions in one picture."""
    lora = [s.one for s in settings if s.one.weights == "lora"] or [s.one for s in settings]
    layers = _commonest([one.layers for one in lora])
    batch = _commonest([one.problems_per_step for one in lora])
    return [
        s
        for s in settings
        if s.one.problems_per_step == batch and (s.one.weights == "full" or s.one.layers in (layers, "every weight"))
    ]


def _commonest(values: Sequence[Any]) -> Any:
    return max(dict.fromkeys(values), key=values.count, default=None)


def _kinds(settings: Sequence[Setting]) -> list[tuple[str, list[Setting], str]]:
    """By rank, lowest first and full fine-tuning last: its name, its settings, its colour."""
    from matplotlib import colormaps

    ordered = sorted(settings, key=lambda s: (s.one.weights == "full", s.one.rank))
    names = list(dict.fromkeys(kind(s.one) for s in ordered))
    ranks = [name for name in names if name.startswith("rank")]
    shades: Any = colormaps["viridis"]
    colours = {name: shades(0.05 + 0.8 * i / max(1, len(ranks) - 1)) for i, name in enumerate(ranks)}
    return [(name, [s for s in ordered if kind(s.one) == name], colours.get(name, "black")) for name in names]


def _by_step(settings: Sequence[Setting], title: str, file: Path) -> Path | None:
    """Each rank at its best rate: the mean of the seeds, and their range."""
    figure, axes = _figure(f"{title}: each at its best learning rate", "step")
    for name, mine, colour in _kinds(settings):
        chosen = best(mine)
        if chosen is None:
            continue
        steps, low, mean, high = _band(chosen)
        label = f"{name}, lr {chosen.one.lr:g} ({len(chosen.results)} seeds)"
        axes.plot(steps, mean, color=colour, linewidth=2, label=label, linestyle="--" if colour == "black" else "-")
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    return _saved(figure, axes, file) if settings else None


def _band(setting: Setting) -> tuple[list[int], list[float], list[float], list[float]]:
    """By step: the lowest seed's accuracy, the mean and the highest's; steps that all seeds reached."""
    curves = [dict(result.curve) for result in setting.results]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    values = [[curve[step] for curve in curves] for step in steps]
    return steps, [min(v) for v in values], [fmean(v) for v in values], [max(v) for v in values]


def _by_rate(settings: Sequence[Setting], title: str, file: Path) -> Path | None:
    if len({s.one.lr for s in settings}) < 2:
        return None
    figure, axes = _figure(f"{title}: final accuracy by learning rate", "learning rate")
    axes.set_xscale("log")
    for name, mine, colour in _kinds(settings):
        by_rate = {lr: best([s for s in mine if s.one.lr == lr]) for lr in sorted({s.one.lr for s in mine})}
        found = [(lr, s) for lr, s in by_rate.items() if s is not None]
        axes.plot(
            [lr for lr, _ in found], [s.mean for _, s in found], color=colour, marker="o", linewidth=2, label=name,
            linestyle="--" if colour == "black" else "-",
        )  # fmt: skip
        for lr, s in found:
            axes.vlines(lr, min(s.accuracies), max(s.accuracies), color=colour, alpha=0.4, linewidth=1.5)
    return _saved(figure, axes, file)


def _by_layers(settings: Sequence[Setting], title: str, file: Path) -> Path | None:
    """Each set of layers at its best rate; of several ranks, the one with about as many parameters as the others."""
    lora = [s for s in settings if s.one.weights == "lora"]
    sets = list(dict.fromkeys(s.one.layers for s in lora))
    if len(sets) < 2:
        return None
    common = _commonest([s.one.layers for s in lora])
    sizes = [s.one.trained_parameters for s in lora if s.one.layers != common]
    wanted = fmean(sizes)
    figure, axes = _figure(f"{title}: which layers are adapted", "")
    labels: list[str] = []
    for x, name in enumerate(sets):
        mine = [s for s in lora if s.one.layers == name]
        size = min((s.one.trained_parameters for s in mine), key=lambda count: abs(count - wanted))
        chosen = best([s for s in mine if s.one.trained_parameters == size])
        assert chosen is not None
        axes.bar(x, chosen.mean, width=0.6, color="0.8")
        axes.plot([x] * len(chosen.accuracies), chosen.accuracies, "o", color="tab:green")
        labels.append(f"{name}, rank {chosen.one.rank}\n{size:,} parameters\nlr {chosen.one.lr:g}")
    axes.set_xticks(range(len(sets)), labels)
    return _saved(figure, axes, file, legend=False)


def _by_batch(settings: Sequence[Setting], title: str, file: Path) -> Path | None:
    """Each batch size at its best rate, for the ranks that have several."""
    figure, axes = _figure(f"{title}: final accuracy by batch size, each at its best rate", "problems a step")
    drawn = False
    for name, mine, colour in _kinds(settings):
        sizes = sorted({s.one.problems_per_step for s in mine})
        layers = _commonest([s.one.layers for s in mine])
        found = [best([s for s in mine if s.one.problems_per_step == n and s.one.layers == layers]) for n in sizes]
        points = [s for s in found if s is not None]
        if len(points) < 2:
            continue
        drawn = True
        axes.plot(
            [s.one.problems_per_step for s in points], [s.mean for s in points], color=colour, marker="o", label=name
        )
        for s in points:
            axes.vlines(s.one.problems_per_step, min(s.accuracies), max(s.accuracies), color=colour, alpha=0.4)
    axes.set_xscale("log", base=2)
    return _saved(figure, axes, file) if drawn else None


def _figure(title: str, x: str) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(7.5, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=ACCURACY)
    axes.grid(alpha=0.3)
    return figure, axes


def _saved(figure: Any, axes: Any, file: Path, *, legend: bool = True) -> Path:
    axes.set_ylim(bottom=0)
    if legend:
        axes.legend(frameon=False, fontsize="small")
    figure.savefig(file)
    return file
