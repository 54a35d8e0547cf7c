"""Figures of matplotlib's, without its state that all figures of a process share, and as files."""

import io
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from lora.files.atomic_write import write_atomic


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Any:
    """Return an empty figure of that many inches, whose margins are found by a layout engine of matplotlib's or set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(width, height), dpi=150, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def steps_figure(
    metrics: Sequence[Mapping[str, Any]],
    *,
    sampled: tuple[str, str],
    held_out: tuple[str, str],
    others: Sequence[tuple[str, str]] = (),
    legend: str,
    **axis: Any,
) -> Any:
    """Return a figure of two metrics and others, each with its label, against the step.

    The metric of the step's own completions is a thin grey line, the held-out one a green line with a point a value,
    and `others` are dotted lines. `axis` are matplotlib's properties of the axes, `legend` the corner of the legend.
    """
    figure = new_figure(7, 4, layout=None)  # finding the margins of one panel takes longer than drawing it
    figure.subplots_adjust(left=0.1, right=0.98, bottom=0.12, top=0.92)
    axes = figure.add_subplot()
    styles = ({"color": "0.7", "linewidth": 1.2}, {"color": "tab:green", "marker": "o", "linewidth": 2})
    dotted = [{"linestyle": ":", "marker": ".", "linewidth": 1.2}] * len(others)
    for (name, label), style in zip((sampled, held_out, *others), (*styles, *dotted), strict=True):
        if points := [(row["step"], row[name]) for row in metrics if name in row]:
            axes.plot(*zip(*points, strict=True), label=label, **style)
    axes.set(xlabel="step", **axis)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(loc=legend, frameon=False)
    return figure


def png(figure: Any) -> bytes:
    """Return the figure as the content of a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


class Plot:
    """A figure that a notebook shows."""

    def __init__(self, figure: Any) -> None:
        self.figure = figure
        """A `Figure` of matplotlib's."""

    def save(self, file: str | PathLike[str]) -> Path:
        """Write it as a PNG, and return the file."""
        write_figure(self.figure, Path(file))
        return Path(file)

    def _repr_png_(self) -> bytes:
        """Return what Jupyter shows."""
        return png(self.figure)


def write_figure(figure: Any, file: Path) -> None:
    """Write it as a PNG, whole: where there is no room for it, the one that was there before stays."""
    write_atomic(file, png(figure))
