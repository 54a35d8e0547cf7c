"""Rewards that are asked for and not computed here (a judge, a reward model), from a thread with a loop of its own.

They wait much and compute nothing, so they need no process that can be killed; and in one place they share what they
know, and keep to one bound on what is under way, whichever loop or thread grades.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from rewards.functions.scores import RewardFunctionError, Score
from rewards.grading.messages import Item
from rewards.types import Problem

Verdict = Score | RewardFunctionError


class Scorer(Protocol):
    """Scores completions of a problem. It lives on one event loop."""

    async def score(self, problem: Problem, texts: Sequence[str]) -> Sequence[Verdict]:
        """Score each text. What fails is returned, not raised."""
        ...

    async def close(self) -> None: ...


class Panel:
    """Scorers by their place among the terms. Safe to use from any event loop and any thread.

    Raises what a scorer's maker raises: ValueError of one line for one that cannot be had.
    """

    def __init__(self, makers: Mapping[int, Callable[[], Scorer]]) -> None:
        self._makers = makers
        self._scorers: dict[int, Scorer] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self._error: BaseException | None = None
        if makers:
            self._begun = threading.Event()
            self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
            self._thread.start()
            self._begun.wait()
            if self._error is not None:
                raise self._error

    @property
    def is_asked(self) -> bool:
        """True if it has any scorers."""
        return bool(self._makers)

    async def score(self, items: Sequence[Item]) -> list[dict[int, Sequence[Verdict]]]:
        """Return each item's verdicts by the terms' places. Raises RuntimeError if it is closed."""
        if not self._makers:
            return [{} for _ in items]
        assert self._loop is not None
        asked = asyncio.run_coroutine_threadsafe(self._score(items), self._loop)
        try:
            return await asyncio.wrap_future(asked)
        except asyncio.CancelledError:
            if self._end.is_set():
                raise RuntimeError("the grader is closed") from None
            raise

    def close(self) -> None:
        """End what is under way."""
        if self._loop is not None and not self._end.is_set():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(10.0)

    async def _serve(self) -> None:
        try:
            self._scorers = {at: make() for at, make in self._makers.items()}
            self._loop = asyncio.get_running_loop()
        except BaseException as error:
            self._error = error
            return
        finally:
            self._begun.set()
        await self._end.wait()
        for scorer in self._scorers.values():
            await scorer.close()

    async def _score(self, items: Sequence[Item]) -> list[dict[int, Sequence[Verdict]]]:
        return list(await asyncio.gather(*map(self._score_item, items)))

    async def _score_item(self, item: Item) -> dict[int, Sequence[Verdict]]:
        asked = [scorer.score(item.problem, item.texts) for scorer in self._scorers.values()]
        return dict(zip(self._scorers, await asyncio.gather(*asked), strict=True))
