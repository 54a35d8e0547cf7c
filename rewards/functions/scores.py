"""The scores that a reward function returned: checked, and several functions' added to one reward."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from rewards.functions.convention import Convention
from rewards.functions.term import Term, with_source
from rewards.types import MOST_REWARD, Outcome, Reward

Score = float | Reward | None
"""A function's verdict on one completion; None when it does not apply (TRL)."""


class RewardFunctionError(ValueError):
    """The user's function failed. ``kind`` names the failure and its line, so that each kind is logged once."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


def checked_scores(term: Term, returned: Any, count: int) -> list[Score]:
    """Return a function's scores of ``count`` completions. Raises `RewardFunctionError` for anything else."""
    values: Any = returned.tolist() if hasattr(returned, "tolist") else returned
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise _error(term, f"returned {type(returned).__name__}, not a list of {count} rewards", "type")
    listed = cast(Sequence[Any], values)
    if len(listed) != count:
        raise _error(term, f"returned {len(listed)} rewards for {count} completions", "length")
    if term.convention is Convention.VERL:  # a score, and what else is to be known of it
        listed = [cast(Any, v)[0] if isinstance(v, tuple) and v else v for v in listed]
    return [_score(term, v) for v in listed]


def _score(term: Term, value: Any) -> Score:
    if value is None:
        return None
    if isinstance(value, Reward):
        return Reward(_number(term, value.value), value.outcome) if value.is_valid else value
    if isinstance(value, Mapping):
        entries = cast(Mapping[str, Any], value)
        if "score" not in entries:
            raise _error(term, "returned a dict without 'score'", "dict")
        return _score(term, entries["score"])
    return _number(term, value)


def _number(term: Term, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise _error(term, f"returned {type(value).__name__}, not a number", "type") from None
    if not math.isfinite(number):
        raise _error(term, f"returned {number}", "not finite")
    if abs(number) > MOST_REWARD:
        raise _error(term, f"returned {number:g}, and a reward is at most {MOST_REWARD:g}", "too large")
    return number


def _error(term: Term, message: str, kind: str) -> RewardFunctionError:
    return RewardFunctionError(with_source(term, f"{term.name} {message}"), f"{term.name}: {kind}")


class Weighted(Protocol):
    """One term of the sum."""

    @property
    def weight(self) -> float: ...


def combine(terms: Sequence[Weighted], scores: Sequence[Score]) -> Reward:
    """Return the weighted sum of one completion's scores, without the terms that do not apply.

    Its outcome is that of the first term that states one (`math_answer` does); of plain numbers, above zero is correct.
    """
    applying = [(t, s) for t, s in zip(terms, scores, strict=True) if s is not None]
    if not applying:
        return Reward(0.0, Outcome.NOT_APPLICABLE)
    stated = [s for _, s in applying if isinstance(s, Reward)]
    failed = [s for s in stated if not s.is_valid]
    if failed:
        return Reward(0.0, failed[0].outcome)
    value = sum(t.weight * (s.value if isinstance(s, Reward) else s) for t, s in applying)
    if stated:
        return Reward(value, stated[0].outcome)
    return Reward(value, Outcome.CORRECT if value > 0 else Outcome.WRONG)
