"""The accuracy curve as a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from rl.monitoring.figure_file import steps_figure


def accuracy_figure(metrics: Sequence[Mapping[str, Any]], title: str) -> Any:
    """Draw held-out accuracy, and the mean reward of each step's own completions, against the step."""
    return steps_figure(
        metrics,
        sampled=("reward/mean", "reward, sampled completions"),
        held_out=("eval/accuracy", "held-out accuracy"),
        legend="lower right",
        title=title,
        ylabel="accuracy",
        ylim=(0, 1),
    )
