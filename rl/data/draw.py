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
    """Return the `count` problems of a step.

    The steps walk through an endless row of epochs. Each epoch is a permutation of its own, so every problem comes once
    an epoch; a step may straddle epochs, and may be longer than one.
    """
    assert problems, "nothing to draw from"
    assert step >= 0, step
    assert count >= 0, count
    drawn: list[Problem] = []
    position = step * count
    while len(drawn) < count:
        epoch, start = divmod(position + len(drawn), len(problems))
        order = _permutation(len(problems), epoch, seed)
        drawn += [problems[i] for i in order[start : start + count - len(drawn)]]
    return drawn


def _permutation(size: int, epoch: int, seed: int) -> list[int]:
    order = list(range(size))
    Random(f"draw/{seed}/{epoch}").shuffle(order)
    return order
