"""The log-loss curve as a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from rl.monitoring.figure_file import steps_figure


def loss_figure(metrics: Sequence[Mapping[str, Any]], title: str) -> Any:
    """Draw log-loss in nats a token against the step, on each step's own completions and held out."""
    return steps_figure(
        metrics,
        sampled=("update/loss", "training"),
        held_out=("eval/log_loss", "held out"),
        legend="upper right",
        title=title,
        ylabel="log-loss, nats a token",
        ylim=(0, None),
    )
