"""Fewer points where a plot has no pixels for them all: what is asked for every few seconds has to stay small."""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

from rl.monitoring.dashboard.types import Row

T = TypeVar("T")
KEPT = ("step", "time")
"""Of several rows, the last one's."""


def subsample(values: Sequence[T], most: int) -> list[T]:
    """At most that many of the values, evenly spaced, the last one among them."""
    if len(values) <= most:
        return list(values)
    return [values[(i + 1) * len(values) // most - 1] for i in range(most)]


def bin_means(rows: Sequence[Row], most: int) -> tuple[list[Row], int]:
    """At most that many rows, each the mean of `each` steps; the rows and `each`."""
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
    means: dict[str, Any] = {name: sum(found) / len(found) for name, found in values.items()}
    return means | {name: rows[-1][name] for name in KEPT if name in rows[-1]}
