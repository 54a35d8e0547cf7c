"""The held-out problems that a run looks at: a sample, because a file may be sorted by subject or level."""

from collections.abc import Sequence
from itertools import zip_longest
from random import Random

from rewards.types import Problem


def sample_held_out(problems: Sequence[Problem], count: int, seed: int) -> list[Problem]:
    """Draw `count` different problems with equal chances; all of them if there are no more.

    A pure function of its arguments, so every evaluation of a run looks at the same ones; a larger sample begins with
    the smaller. Of several sources each has an equal part of it, or all it has.
    """
    by_source: dict[str, list[Problem]] = {}
    for problem in problems:
        by_source.setdefault(problem.source, []).append(problem)
    samples = [_sample(of_source, count, seed) for of_source in by_source.values()]
    rounds = zip_longest(*samples)
    return [problem for each in rounds for problem in each if problem is not None][:count]


def _sample(problems: Sequence[Problem], count: int, seed: int) -> list[Problem]:
    rng, size = Random(f"held-out sample/{seed}"), len(problems)
    swapped: dict[int, int] = {}  # the first steps of a Fisher-Yates shuffle, without its list: files can be long
    drawn: list[Problem] = []
    for i in range(min(count, size)):
        j = rng.randrange(i, size)
        drawn.append(problems[swapped.get(j, j)])
        swapped[j] = swapped.get(i, i)
    return drawn
