"""Requests to one model, carried out by their number and not by their arrival."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rl.serve.errors import ServerFault

T = TypeVar("T")
FIRST = 1


class Turns:
    """Numbers 1, 2, 3, ... in turn. A number that stays away for `patience_s` seconds is passed over.

    Clients send many requests at once over many connections, later ones first. Work whose turn was passed over fails,
    as does all that waited behind it: what it would have built on is not there.
    """

    def __init__(self, patience_s: float = 120.0) -> None:
        self._patience_s = patience_s
        self._next = FIRST
        self._running = False
        self._progress = time.monotonic()
        self._moved = asyncio.Condition()
        self._waiting: set[int] = set()
        self._passed_over: dict[int, int] = {}
        """Numbers that waited behind a missing one, with that one."""

    @property
    def idle(self) -> bool:
        """True if nothing runs or waits."""
        return not self._running and not self._waiting

    @property
    def waiting(self) -> int:
        """Number of requests that wait for their turn."""
        return len(self._waiting)

    def awaits(self, number: int) -> bool:
        """Return True if this number's turn is the next, and others wait behind it."""
        return number == self._next and bool(self._waiting)

    async def take(self, number: int | None, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of the work, done in the turn of that number; None is the next free one.

        Raises:
            ValueError: the number came too late.
            ServerFault: a number before it never came.
        """
        number = await self._enter(number)
        try:
            return await work()
        finally:
            await self._leave()

    async def _enter(self, number: int | None) -> int:
        async with self._moved:
            if number is None:
                number = max([self._next - 1, *self._waiting]) + 1
            if number < self._next or number in self._waiting:
                raise ValueError(f"request {number} of this model came too late or twice: its turn is over")
            if self.idle:
                self._progress = time.monotonic()
            self._waiting.add(number)
            try:
                while not self._may_begin(number):
                    await self._wait_for_progress(number)
            finally:
                self._waiting.discard(number)
            self._next, self._running = number + 1, True
            return number

    def _may_begin(self, number: int) -> bool:
        if (missing := self._passed_over.pop(number, None)) is not None:
            raise ServerFault(
                f"request {missing} of this model did not come within {self._patience_s:g} s, so request {number}, "
                "which waited for it, was not carried out: go on from your last checkpoint"
            )
        return number == self._next and not self._running

    async def _wait_for_progress(self, number: int) -> None:
        left = self._progress + self._patience_s - time.monotonic()
        try:
            async with asyncio.timeout(None if self._running else max(0.01, left)):
                await self._moved.wait()
        except TimeoutError:
            if not self._running and time.monotonic() >= self._progress + self._patience_s:
                self._pass_over()

    def _pass_over(self) -> None:
        """Give up the missing number, and all that waits behind it."""
        self._passed_over.update(dict.fromkeys(self._waiting, self._next))
        self._next = max(self._waiting) + 1
        self._progress = time.monotonic()
        self._moved.notify_all()

    async def _leave(self) -> None:
        async with self._moved:
            self._running = False
            self._progress = time.monotonic()
            self._moved.notify_all()
