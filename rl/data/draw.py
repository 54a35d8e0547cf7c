"""The problems of a step, as a pure function of the step, so that a resumed run needs no state of the data."""

from collections.abc import Sequence
from random import Random

from rewards.types import Problem

MOST_REPEATED = 1024
"""Most problems of a step where the data has fewer: it then takes some of them several times."""


def check_step_size(problems: Sequence[Problem], count: int) -> None:
    """Raises ValueError if a step takes so many more problems than there are that it cannot be meant."""
    most = max(MOST_REPEATED, len(problems))
    if count > most:
        raise ValueError(
            f"problems_per_step = {count}, and there are {len(problems)} problems to train on; choose at most {most}"
        )


def draw(problems: Sequence[Problem], step: int, count: int, seed: int) -> list[Problem]:
    """Return the `count` problems of a step; a step may straddle epochs, and may be longer than one."""
    assert step >= 0, step
    assert count >= 0, count
    return draw_numbers(problems, range(step * count, (step + 1) * count), seed)


def draw_numbers(problems: Sequence[Problem], numbers: Sequence[int], seed: int) -> list[Problem]:
    """Return the problems of these numbers, from 0, in the endless row of epochs that the steps walk through.

    Each epoch is a permutation of its own, so every problem comes once an epoch.
    """
    assert problems, "nothing to draw from"
    size = len(problems)
    orders = {epoch: _permutation(size, epoch, seed) for epoch in {number // size for number in numbers}}
    return [problems[orders[number // size][number % size]] for number in numbers]


def _permutation(size: int, epoch: int, seed: int) -> list[int]:
    order = list(range(size))
    Random(f"draw/{seed}/{epoch}").shuffle(order)
    return order
