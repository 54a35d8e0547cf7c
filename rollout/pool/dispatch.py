"""Hands pieces of calls to workers: to whoever has the fewest tokens waiting, and no more at once than it generates.

What a worker has no room for waits here, for whoever has room first: so none idles while another has a queue. Two
halves of a prompt on two workers cost two prefills; a prompt is divided only where a worker would idle otherwise.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any, Generic, TypeVar

from rollout.calls.streams import relayed
from rollout.pool.pieces import Piece
from rollout.types import Engine, EngineDied, Place

Answer = TypeVar("Answer")
Ask = Callable[[Engine, Sequence[Piece]], AsyncGenerator[tuple[Place, Answer]]]
"""Has an engine answer some pieces; yields each place, with its prompt's index, and its answer."""


@dataclass(slots=True)
class Load:
    """A worker's work, that of all calls together."""

    sequences: int = 0
    tokens: int = 0
    """Most that it may still have to write or read."""
    latest: int = 0
    """Number of the latest piece that it was given, counted over all workers."""

    def add(self, piece: Piece, places: int) -> None:
        """Count so many of a piece's places, or if negative no longer."""
        self.sequences += places * piece.sequences
        self.tokens += places * piece.tokens


@dataclass(slots=True)
class Slot:
    """A worker's place: the engine in it, or the task that brings the next one."""

    index: int
    engine: Engine | None
    restart: "asyncio.Task[None] | None" = None
    failures: int = 0
    """Deaths since a worker in this place last answered a prompt."""
    load: Load = field(default_factory=Load)
    """The engine's."""


@dataclass(slots=True, eq=False)
class _Call(Generic[Answer]):
    """A call, its pieces that no worker has, and the tasks in which workers answer the others."""

    ask: Ask[Answer]
    waiting: deque[Piece]
    missing: int
    ended: "asyncio.Future[None]"
    answers: "asyncio.Queue[tuple[Place, Answer]]" = field(default_factory=asyncio.Queue[Any])
    tasks: "set[asyncio.Task[None]]" = field(default_factory=set[Any])

    def fail(self, error: BaseException) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)

    def put(self, place: Place, answer: Answer) -> None:
        self.answers.put_nowait((place, answer))
        self.missing -= 1
        if not self.missing and not self.ended.done():
            self.ended.set_result(None)


class Dispatcher:
    """Every place of a call is answered once, whichever workers die meanwhile; earlier calls are handed out first."""

    def __init__(
        self, serving: Callable[[], list[Slot]], mark_dead: Callable[[Slot, Engine, EngineDied], None], at_once: int
    ) -> None:
        """`serving` returns the workers there are, and raises what ends all calls; a worker generates `at_once`
        sequences at a time."""
        self._serving = serving
        self._mark_dead = mark_dead
        self._at_once = at_once
        self._calls: list[_Call[Any]] = []
        self._given = 0
        self._planned = False

    async def answers(self, pieces: Sequence[Piece], ask: Ask[Answer]) -> AsyncGenerator[tuple[Place, Answer]]:
        """Yield each place's answer as it comes."""
        if not pieces:
            return
        ended = asyncio.get_running_loop().create_future()
        call = _Call(ask, deque(pieces), sum(len(piece.places) for piece in pieces), ended)
        async with aclosing(relayed(call.answers, self._see_through(call))) as answers:
            async for each in answers:
                yield each

    async def _see_through(self, call: _Call[Any]) -> None:
        """Wait until all is answered. If a part fails, nothing of the call works on unseen."""
        self._calls.append(call)
        self.hand_out()
        try:
            await call.ended
            await asyncio.gather(*call.tasks)  # streams that have nothing more to say end by themselves
        finally:
            self._calls.remove(call)
            for task in call.tasks:
                task.cancel()
            await asyncio.gather(*call.tasks, return_exceptions=True)

    def hand_out(self) -> None:
        """Give what waits to workers that have room."""
        self._planned = False
        calls = [call for call in self._calls if call.waiting and not call.ended.done()]
        if not calls:
            return
        try:
            slots = self._serving()
        except Exception as error:
            for call in calls:
                call.fail(error)
            return
        _divide(calls, idle=sum(not slot.load.sequences for slot in slots))
        for call in calls:
            shares: defaultdict[int, list[Piece]] = defaultdict(list)
            while call.waiting and (slot := self._with_room(slots, call.waiting[0])) is not None:
                piece = call.waiting.popleft()
                self._given += 1
                slot.load.add(piece, len(piece.places))
                slot.load.latest = self._given
                shares[slot.index].append(piece)
            for slot in slots:
                if shares[slot.index]:
                    self._give(call, slot, shares[slot.index])

    def soon(self) -> None:
        """Hand out when all that ended together is counted."""
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self.hand_out)

    def least_loaded(self, slots: Iterable[Slot]) -> Slot:
        """Return the one with the fewest tokens waiting; of several, the one that was given nothing for longest."""
        return min(slots, key=lambda slot: (slot.load.tokens, slot.load.latest))

    @contextmanager
    def counted(self, slot: Slot, piece: Piece) -> Generator[None]:
        """Count a piece that a worker is asked about directly, without waiting for room."""
        load, self._given = slot.load, self._given + 1
        load.latest = self._given
        load.add(piece, len(piece.places))
        try:
            yield
        finally:
            load.add(piece, -len(piece.places))
            self.soon()

    def _with_room(self, slots: Sequence[Slot], piece: Piece) -> Slot | None:
        """Return the least loaded that has room for a piece, which need not be room for all of it."""
        roomy = [slot for slot in slots if not piece.sequences or slot.load.sequences < self._at_once]
        return self.least_loaded(roomy) if roomy else None

    def _give(self, call: _Call[Any], slot: Slot, pieces: Sequence[Piece]) -> None:
        """Have a worker answer pieces, in a task that may be cancelled before it has begun."""
        assert slot.engine is not None
        load, answered = slot.load, set[Place]()

        def count_out(_: object) -> None:
            for piece in pieces:
                load.add(piece, -len(piece.without(answered).places))
            self.soon()

        task = asyncio.create_task(self._answer(call, slot, slot.engine, load, pieces, answered))
        task.add_done_callback(count_out)
        call.tasks.add(task)

    async def _answer(
        self, call: _Call[Any], slot: Slot, engine: Engine, load: Load, pieces: Sequence[Piece], answered: set[Place]
    ) -> None:
        """Put down the answers of the worker that was in a place. What it leaves when it dies waits for the others."""
        by_key = {key: piece for piece in pieces for key in piece.all_places()}
        try:
            async with aclosing(call.ask(engine, pieces)) as answers:
                async for key, answer in answers:
                    answered.add(key)
                    load.add(by_key[key], -1)
                    slot.failures = 0
                    call.put(key, answer)
                    self.soon()
            assert len(answered) == len(by_key), "an engine answers all that it is asked"
        except EngineDied as died:
            self._mark_dead(slot, engine, died)
            call.waiting.extendleft(left for piece in pieces if (left := piece.without(answered)).places)
        except Exception as error:
            call.fail(error)


def _divide(calls: Sequence[_Call[Any]], idle: int) -> None:
    """Divide what waits among idle workers that would get none of it."""
    if (pieces := sum(len(call.waiting) for call in calls)) < idle:
        parts = chain(repeat(idle // pieces + 1, idle % pieces), repeat(idle // pieces))
        for call in calls:
            call.waiting = deque(part for piece in call.waiting for part in piece.divided(next(parts)))
