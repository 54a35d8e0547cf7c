"""The accuracy curve as a figure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rl.monitoring.figure_file import steps_figure

OF_ONE_SET = re.compile(r"eval/([^/]+)/accuracy")
MOST_SETS = 8
"""Most sources and sets with a line of their own: there are no more colours to tell apart."""


def accuracy_figure(metrics: Sequence[Mapping[str, Any]], title: str) -> Any:
    """Draw held-out accuracy, and the mean reward of each step's own completions, against the step.

    Several sources of problems, and `evaluate.sets`, have a line each.
    """
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
        ylim=(0, 1),
    )
