"""Fewer points where a plot has no pixels for them all: what is requested every few seconds has to stay small."""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

from rl.monitoring.dashboard.types import Row

T = TypeVar("T")
KEPT = ("step", "time")
"""Figures of which a mean row keeps the last one."""


def subsample(values: Sequence[T], most: int) -> list[T]:
    """Return at most that many of the values, evenly spaced, the last one among them."""
    if len(values) <= most:
        return list(values)
    return [values[(i + 1) * len(values) // most - 1] for i in range(most)]


def bin_means(rows: Sequence[Row], most: int) -> tuple[list[Row], int]:
    """Return at most that many rows, each the mean of `each` steps, and `each`."""
    each = max(1, math.ceil(len(rows) / most))
    if each == 1:
        return list(rows), 1
    return [_mean(rows[i : i + each]) for i in range(0, len(rows), each)], each


def _mean(rows: Sequence[Row]) -> Row:
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                values.setdefault(name, []).append(value)
    means: dict[str, Any] = {name: sum(column) / len(column) for name, column in values.items()}
    return means | {name: rows[-1][name] for name in KEPT if name in rows[-1]}
