"""The log-loss curve as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rl.monitoring.figure_file import write_figure


def draw_loss_curve(metrics: Sequence[Mapping[str, Any]], title: str, file: Path) -> None:
    """Log-loss in nats a token against the step, on each step's own completions and held out, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    trained = [(row["step"], row["update/loss"]) for row in metrics if "update/loss" in row]
    held_out = [(row["step"], row["eval/log_loss"]) for row in metrics if "eval/log_loss" in row]
    if trained:
        axes.plot(*zip(*trained, strict=True), color="0.7", linewidth=1.2, label="training")
    if held_out:
        axes.plot(*zip(*held_out, strict=True), color="tab:green", marker="o", linewidth=2, label="held out")
    axes.set(title=title, xlabel="step", ylabel="log-loss, nats a token")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if trained or held_out:
        axes.legend(loc="upper right", frameon=False)
    write_figure(figure, file)
