"""The messages between the pool and its worker processes: a set-up, items of work, and what became of each."""

from dataclasses import dataclass

from rewards.functions.scores import Score
from rewards.types import Problem, Reward


@dataclass(frozen=True, slots=True)
class Item:
    """One call's worth of work: a problem and the completions to grade together (one, unless a function takes
    groups).
    """

    problem: Problem
    texts: tuple[str, ...]
    finish_reasons: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Graded:
    """The rewards of an item, the seconds they took, and what went wrong: ``(kind, traceback)`` of the user's
    function.
    """

    rewards: tuple[Reward, ...]
    seconds: float
    failure: tuple[str, str] | None = None
    scores: tuple[tuple[Score, ...], ...] = ()
    """Each completion's scores by the worker's functions, where others are to be added before they are combined. None
    are there of an item that was lost."""


@dataclass(frozen=True, slots=True)
class Setup:
    """A worker's first message: the packed functions, and its memory cap."""

    packed: bytes
    memory_mb: int
    keeps_scores: bool = False
    """Others are to be added."""
