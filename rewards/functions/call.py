"""Calls reward functions, the user's own too. What one does wrong is a `RewardFunctionError`.

Each is called by its own convention (``docs/rewards.md`` has an example of each), so that an existing reward file works
unchanged. It may be ``async``. Exceptions, NaN and lists of the wrong length are failures.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Sequence
from types import TracebackType
from typing import Any

from rewards.functions.arguments import batch_arguments, single_arguments
from rewards.functions.convention import Convention
from rewards.functions.scores import RewardFunctionError, Score, checked_scores
from rewards.functions.term import Term
from rewards.types import Problem

_GRADER_FILES = (__file__, batch_arguments.__code__.co_filename)


def score(
    term: Term, problem: Problem, texts: Sequence[str], finish_reasons: Sequence[str] | None = None
) -> list[Score]:
    """Score each completion of one problem by one function. Without finish reasons all have ended by themselves.

    Raises:
        RewardFunctionError: with the function's traceback.
    """
    try:
        returned = _call(term, problem, texts, finish_reasons or ["stop"] * len(texts))
    except (MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a SystemExit in a reward function is a failure of it, too
        raise RewardFunctionError(_own_traceback(error), _kind(term, error)) from None
    return checked_scores(term, returned, len(texts))


def _call(term: Term, problem: Problem, texts: Sequence[str], finish_reasons: Sequence[str]) -> Any:
    if term.convention not in (Convention.OURS, Convention.VERL):
        returned = term.function(**batch_arguments(term, problem, texts, finish_reasons))
        return asyncio.run(_awaited(returned)) if term.is_async else returned
    pairs = zip(texts, finish_reasons, strict=True)
    calls = [single_arguments(term, problem, text, reason) for text, reason in pairs]
    if term.is_async:
        return asyncio.run(_gathered(term, calls))
    return [term.function(**arguments) for arguments in calls]


async def _awaited(returned: Awaitable[Any]) -> Any:
    return await returned


async def _gathered(term: Term, calls: Sequence[dict[str, Any]]) -> list[Any]:
    return list(await asyncio.gather(*[term.function(**arguments) for arguments in calls]))


def _own_traceback(error: BaseException) -> str:
    """The traceback from the function on: the grader's own frames are of no use to its author."""
    return "".join(traceback.format_exception(type(error), error, _own_frames(error))).rstrip()


def _own_frames(error: BaseException) -> TracebackType | None:
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None and _is_grader(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def _is_grader(file: str) -> bool:
    return file in _GRADER_FILES or "/asyncio/" in file


def _kind(term: Term, error: BaseException) -> str:
    frames = traceback.extract_tb(_own_frames(error))
    return f"{term.name}: {type(error).__name__} at line {frames[-1].lineno if frames else '?'}"
