"""Which problems a step trains on: a pure function of the step, so a resumed run needs no state of the data."""

from collections.abc import Sequence
from random import Random

from rewards.types import Problem


def draw(problems: Sequence[Problem], step: int, count: int, seed: int) -> list[Problem]:
    """The `count` problems of a step.

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
