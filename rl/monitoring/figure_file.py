"""Figures of matplotlib's, without its state that all figures of a process share, and as files."""

import io
from os import PathLike
from pathlib import Path
from typing import Any

from lora.atomic_write import write_atomic


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure of that many inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
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
        """Of matplotlib's."""

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
