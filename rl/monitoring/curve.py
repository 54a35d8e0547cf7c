"""The accuracy curve as a figure."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rl.monitoring.figure_file import steps_figure

OF_ONE_SET = re.compile(r"eval/([^/]+)/accuracy")
MOST_SETS = 8
"""Most sources and sets with a line of their own: there are no more colours to tell apart."""


def accuracy_figure(metrics: Sequence[Mapping[str, Any]], title: str) -> Any:
    """Draw held-out accuracy, and the mean reward of each step's own completions, against the step.

    Several sources of problems, and `evaluate.sets`, have a line each. The axis goes from 0 to 1, and further where
    rewards of the user's own do.
    """
    rewards = [row["reward/mean"] for row in metrics if math.isfinite(row.get("reward/mean", math.nan))]
    names = dict.fromkeys(name for row in metrics for name in row)
    sets = [(name, match[1]) for name in names if (match := OF_ONE_SET.fullmatch(name))]
    return steps_figure(
        metrics,
        sampled=("reward/mean", "reward, sampled completions"),
        held_out=("eval/accuracy", "held-out accuracy"),
        others=sets[:MOST_SETS],
        legend="lower right",
        title=title,
        ylabel="accuracy",
        ylim=(min(0.0, *rewards), max(1.0, *rewards)) if rewards else (0, 1),
    )
