"""Problems that were always or never solved are drawn less: nothing is to be learned from them for now."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from rewards.types import Problem

TRIES = 64
"""Problems that are looked at in the place of one that is passed over, at most: then that one is drawn after all."""


class PassRatePools:
    """The problems whose completions were all right, or all wrong, when they were drawn last.

    Which problem is drawn for a number is a function of the seed, the number and these two sets alone.
    """

    def __init__(self, weight: float, seed: int) -> None:
        """A problem of the two sets is drawn with this weight, others with weight 1."""
        self._weight = weight
        self._seed = seed
        self._solved: set[str] = set()
        self._unsolved: set[str] = set()

    def choose(self, problem: Problem, number: int, others: Sequence[Problem]) -> Problem:
        """Return the problem itself, or in its place one of `others`, those of its source, for the draw of a number."""
        rng = Random(f"pass rates/{self._seed}/{number}")
        candidate = problem
        for _ in range(TRIES):
            if self._is_open(candidate) or rng.random() < self._weight:
                return candidate
            candidate = others[rng.randrange(len(others))]
        return problem

    def observe(self, problem: Problem, pass_rate: float) -> None:
        """Take in the fraction of a problem's completions that were right."""
        for members, rate in ((self._solved, 1.0), (self._unsolved, 0.0)):
            if pass_rate == rate:
                members.add(problem.id)
            else:
                members.discard(problem.id)

    def metrics(self) -> dict[str, float]:
        """Return how many problems are in each set."""
        return {"curriculum/solved": float(len(self._solved)), "curriculum/unsolved": float(len(self._unsolved))}

    def state(self) -> dict[str, Any]:
        """Return all that later draws depend on."""
        return {"solved": sorted(self._solved), "unsolved": sorted(self._unsolved)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned."""
        self._solved, self._unsolved = set(state.get("solved", ())), set(state.get("unsolved", ()))

    def _is_open(self, problem: Problem) -> bool:
        return problem.id not in self._solved and problem.id not in self._unsolved
