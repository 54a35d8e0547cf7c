"""The log-loss curve as a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from rl.monitoring.figure_file import new_figure


def loss_figure(metrics: Sequence[Mapping[str, Any]], title: str) -> Any:
    """Return log-loss in nats a token against the step, on each step's own completions and held out."""
    figure = new_figure(7, 4)
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
    return figure
