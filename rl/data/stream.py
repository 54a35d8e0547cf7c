"""The endless row of problems that steps walk through, of one source or of several."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from random import Random

from rewards.types import Problem
from rl.config import Mixture
from rl.data.draw import draw_numbers
from rl.data.pass_rates import PassRatePools

BLOCK = 256
"""Numbers that are divided among the sources together, each getting its share to within one."""


class ProblemStream:
    """The problems by their numbers in the row: a pure function of the number and the seed.

    Which of several sources a number falls to follows from their weights. A source's own problems come in epochs, each
    of them a permutation, as those of a single source do.

    Example: ``ProblemStream.of(problems.train, config.sources, config.seed).draw(range(16))``
    """

    def __init__(self, by_source: Mapping[str, Sequence[Problem]], weights: Mapping[str, float], seed: int) -> None:
        self._by_source = by_source
        self._seed = seed
        self._sources = list(by_source)
        total = sum(weights[source] for source in self._sources)
        self._bounds = list(accumulate(weights[source] / total for source in self._sources))[:-1]
        self._drawn_before = [[0] * len(self._sources)]
        """Numbers of each source that come before a block, for every block that was looked at."""

    @classmethod
    def of(cls, problems: Sequence[Problem], sources: Mixture, seed: int) -> "ProblemStream":
        """Return the stream of a run's training problems."""
        if not sources:
            return cls({"": problems}, {"": 1.0}, seed)
        weights = {source.key: source.weight for source in sources}
        by_source: dict[str, list[Problem]] = {key: [] for key in weights}
        for problem in problems:
            by_source[problem.source].append(problem)
        return cls(by_source, weights, seed)

    def draw(self, numbers: Sequence[int], pools: PassRatePools | None = None) -> list[Problem]:
        """Return the problems of these numbers, from 0, in their order; where there are `pools`, those that they choose
        in the place of these, of the same sources."""
        places = self._places(numbers)
        drawn: dict[tuple[int, int], Problem] = {}
        for index, source in enumerate(self._sources):
            of_source = [place for place in places if place[0] == index]
            problems = draw_numbers(self._by_source[source], [number for _, number in of_source], self._seed)
            drawn |= zip(of_source, problems, strict=True)
        row = [drawn[place] for place in places]
        if pools is None:
            return row
        own = [self._by_source[self._sources[index]] for index, _ in places]
        return [pools.choose(*each) for each in zip(row, numbers, own, strict=True)]

    def _places(self, numbers: Sequence[int]) -> list[tuple[int, int]]:
        """Return for each number the index of its source, and which of the source's draws it is, from 0."""
        if len(self._sources) == 1:
            return [(0, number) for number in numbers]
        orders = {block: self._block(block) for block in {number // BLOCK for number in numbers}}
        self._count_to(max(orders, default=0))
        return [self._place(orders[number // BLOCK], *divmod(number, BLOCK)) for number in numbers]

    def _place(self, order: Sequence[int], block: int, offset: int) -> tuple[int, int]:
        source = order[offset]
        return source, self._drawn_before[block][source] + order[:offset].count(source)

    def _count_to(self, block: int) -> None:
        for last in range(len(self._drawn_before) - 1, block):
            order, before = self._block(last), self._drawn_before[last]
            self._drawn_before.append([count + order.count(index) for index, count in enumerate(before)])

    def _block(self, block: int) -> list[int]:
        """Return the sources of a block's numbers: systematic sampling by the shares, in random order.

        In order, the places of a step's refills would always fall to the same sources.
        """
        rng = Random(f"mixture/{self._seed}/{block}")
        offset = rng.random()
        order = [bisect_right(self._bounds, (place + offset) / BLOCK) for place in range(BLOCK)]
        rng.shuffle(order)
        return order
