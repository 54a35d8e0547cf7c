"""The values that flow through grading: a problem and a completion's text go in, a reward with its reason comes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with its reference answer.

    Example: ``Problem(id="gsm8k/17", question="2 + 3 = ?", answer="5")``
    """

    id: str
    question: str
    answer: str
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The data set's other columns, handed to custom reward functions."""
    source: str = ""
    """The source that it is from, where a run has several."""


class Outcome(StrEnum):
    """Why a completion got its reward. Every grade has exactly one reason."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    """The completion states no final answer."""
    UNPARSABLE = "unparsable"
    """It states one that is not mathematics, or is too large to look at."""
    TRUNCATED = "truncated"
    """It was cut off by the token limit."""
    TIMEOUT = "timeout"
    """Grading passed its deadline (or its memory cap) and was killed."""
    CRASHED = "crashed"
    """The reward function itself failed: a fault of the grader, not of the completion."""
    NOT_APPLICABLE = "not_applicable"
    """Every reward function said (by None) that it does not judge this completion."""


MOST_REWARD = 1e30
"""Largest magnitude of a function's or an environment's reward: learners compute in float32, which ends at 3e38."""


@dataclass(frozen=True, slots=True)
class Reward:
    """The grade of one completion.

    Example: ``Reward(1.0, Outcome.CORRECT)``
    """

    value: float
    outcome: Outcome

    @property
    def is_valid(self) -> bool:
        """True if the completion may teach: one whose grader crashed is left out of its group, not scored 0."""
        return self.outcome not in (Outcome.CRASHED, Outcome.NOT_APPLICABLE)


class Grader(Protocol):
    """Grades whole groups, or parts of them as they are written. Never raises for a completion's text."""

    takes_groups: bool = False
    """True if a reward function looks at a whole group, which cannot be graded in parts then."""

    async def grade(
        self,
        problems: Sequence[Problem],
        texts_P_G: Sequence[Sequence[str]],
        finish_reasons_P_G: Sequence[Sequence[str]] | None = None,
    ) -> list[list[Reward]]:
        """Rewards in the shape of ``texts_P_G``: problems, then the completions of each one's group.

        A finish reason is ``stop``, or ``length`` for a completion that was cut off; without them all have ended.
        """
        ...

    async def grade_part(self, problem: Problem, texts: Sequence[str], finish_reasons: Sequence[str]) -> list[Reward]:
        """Rewards of some completions of a group, of all of them if it `takes_groups`. `check` counts failures."""
        return (await self.grade([problem], [texts], [finish_reasons]))[0]

    def check(self, rewards_P_G: Sequence[Sequence[Reward]], problems: Sequence[Problem] = ()) -> None:
        """Raises an error if too many of a step's completions could not be graded; `problems` are their groups'."""

    async def close(self) -> None:
        """End the grader's processes."""
        ...
