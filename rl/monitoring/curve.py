"""The accuracy curve as a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from rl.monitoring.figure_file import new_figure


def accuracy_figure(metrics: Sequence[Mapping[str, Any]], title: str) -> Any:
    """Return held-out accuracy, and the mean reward of each step's own completions, against the step."""
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    sampled = [(row["step"], row["reward/mean"]) for row in metrics if "reward/mean" in row]
    held_out = [(row["step"], row["eval/accuracy"]) for row in metrics if "eval/accuracy" in row]
    if sampled:
        axes.plot(*zip(*sampled, strict=True), color="0.7", linewidth=1.2, label="reward, sampled completions")
    if held_out:
        axes.plot(*zip(*held_out, strict=True), color="tab:green", marker="o", linewidth=2, label="held-out accuracy")
    axes.set(title=title, xlabel="step", ylabel="accuracy", ylim=(0, 1))
    axes.grid(alpha=0.3)
    if sampled or held_out:
        axes.legend(loc="lower right", frameon=False)
    return figure
