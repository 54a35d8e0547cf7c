"""Several engines as one: spread the prompts, hand a dead worker's to the others, keep the order."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from lora.types import Adapter
from rollout.config import SamplingConfig
from rollout.parts import relayed
from rollout.types import Completion, CompletionPart, Engine, EngineDied, Place, PromptLogprobs, PromptQuery

log = logging.getLogger(__name__)

Start = Callable[[int], Awaitable[Engine]]
"""Brings an engine for the place of that index."""
Admit = Callable[[Engine], Awaitable[None]]

Answer = TypeVar("Answer")
Ask = Callable[[Engine, Sequence[int]], AsyncGenerator[tuple[int, Answer]]]
"""Has an engine answer the prompts of these indices; yields each index with its answer."""

BACK_OFF = (0.0, 2.0, 10.0, 30.0, 60.0)
"""Seconds before the first restart in a row, the second, ..."""


@dataclass(slots=True)
class _Slot:
    """A worker's place: the engine in it, or the task that brings the next one."""

    index: int
    engine: Engine | None
    restart: "asyncio.Task[None] | None" = None
    failures: int = 0
    """Deaths since a worker in this place last answered a prompt."""


class EnginePool(Engine):
    """Every prompt is answered exactly once, whichever workers die meanwhile.

    What a dead worker had not finished goes to the others at once. A new one is started in its place, beside the work
    that goes on, and serves once `admit` has let it in. A worker that dies `max_restarts` times in a row without an
    answer is given up.
    """

    def __init__(
        self, engines: Sequence[Engine], start: Start | None = None, admit: Admit | None = None, max_restarts: int = 0
    ) -> None:
        assert engines
        self._slots = [_Slot(index, engine) for index, engine in enumerate(engines)]
        self._start = start
        self._admit = admit
        self._max_restarts = max_restarts
        self._closed = False
        self._turn = 0
        """Number of the worker with which the next call begins, counted on over all of them."""
        self._last_death = "it was never seen"
        """Cause of the latest death."""

    async def sample(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
        top_logprobs: int = 0,
    ) -> list[list[Completion]]:
        async def ask(engine: Engine, indices: Sequence[int]) -> AsyncGenerator[tuple[int, list[Completion]]]:
            part, part_seeds = [prompts[i] for i in indices], [seeds[i] for i in indices]
            stream = engine.stream(part, adapter, sampling, seeds=part_seeds, top_logprobs=top_logprobs)
            async with aclosing(stream) as answers:
                async for index, completions in answers:
                    yield indices[index], completions

        return await self._spread(len(prompts), ask)

    async def stream_completions(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
    ) -> AsyncGenerator[tuple[Place, Completion]]:
        """As the protocol has it. Of a prompt that a dead worker had begun, the others write what is missing."""
        coming, given = asyncio.Queue[tuple[Place, Completion]](), set[Place]()

        async def ask(engine: Engine, indices: Sequence[int]) -> AsyncGenerator[tuple[int, None]]:
            part, part_seeds, ended = [prompts[i] for i in indices], [seeds[i] for i in indices], Counter[int]()
            stream = engine.stream_completions(part, adapter, sampling, seeds=part_seeds)
            async with aclosing(stream) as completions:
                async for (index, place), completion in completions:
                    if (whole := (indices[index], place)) not in given:
                        given.add(whole)
                        coming.put_nowait((whole, completion))
                    ended[index] += 1
                    if ended[index] == sampling.group_size:
                        yield indices[index], None

        async with aclosing(relayed(coming, self._spread(len(prompts), ask))) as completions:
            async for each in completions:
                yield each

    async def stream_parts(
        self,
        prompt: Sequence[int],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seed: int,
        top_logprobs: int = 0,
    ) -> AsyncGenerator[CompletionPart]:
        """As the protocol has it. A prompt whose worker died before it wrote anything goes to another one."""
        begun = False
        while True:
            slots = await self._serving()
            slot = slots[self._next_turn(1) % len(slots)]
            engine = slot.engine
            assert engine is not None
            stream = engine.stream_parts(prompt, adapter, sampling, seed=seed, top_logprobs=top_logprobs)
            try:
                async with aclosing(stream) as parts:
                    async for part in parts:
                        begun, slot.failures = True, 0
                        yield part
                return
            except EngineDied as died:
                self._mark_dead(slot, engine, died)
                if begun:  # the same again, from another worker, need not go on where this ended
                    raise

    async def score(self, sequences: Sequence[Sequence[int]], adapter: Adapter) -> list[list[float]]:
        while True:
            slot = (await self._serving())[0]
            engine = slot.engine
            assert engine is not None
            try:
                return await engine.score(sequences, adapter)
            except EngineDied as died:
                self._mark_dead(slot, engine, died)

    async def score_prompts(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, queries: Sequence[PromptQuery]
    ) -> list[PromptLogprobs]:
        async def ask(engine: Engine, indices: Sequence[int]) -> AsyncGenerator[tuple[int, PromptLogprobs]]:
            part, part_queries = [prompts[i] for i in indices], [queries[i] for i in indices]
            for index, answer in zip(indices, await engine.score_prompts(part, adapter, part_queries), strict=True):
                yield index, answer

        if len(queries) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many queries, and there are {len(queries)}")
        return await self._spread(len(prompts), ask)

    def replicas(self) -> Sequence[Engine]:
        return [slot.engine for slot in self._slots if slot.engine is not None]

    async def close(self) -> None:
        self._closed = True
        restarts = [slot.restart for slot in self._slots if slot.restart is not None]
        for restart in restarts:
            restart.cancel()
        await asyncio.gather(*restarts, return_exceptions=True)
        await asyncio.gather(*(engine.close() for engine in self.replicas()))

    async def _spread(self, count: int, ask: Ask[Answer]) -> list[Answer]:
        """Return an answer for each index below `count`, whichever workers die meanwhile.

        Each call begins with the worker behind the last that the one before asked, so that calls of few prompts keep
        all of them busy.
        """
        answered: dict[int, Answer] = {}
        first = self._next_turn(count)

        async def spread(indices: Sequence[int]) -> None:
            if not indices:
                return
            slots = await self._serving()
            await _all_or_none(
                answer(slots[(first + i) % len(slots)], indices[i :: len(slots)]) for i in range(len(slots))
            )

        async def answer(slot: _Slot, indices: Sequence[int]) -> None:
            engine = slot.engine
            if engine is None or not indices:  # it died between two calls
                return await spread(indices)
            try:
                async with aclosing(ask(engine, indices)) as answers:
                    async for index, each in answers:
                        answered[index] = each
                        slot.failures = 0
            except EngineDied as died:
                self._mark_dead(slot, engine, died)
                await spread([i for i in indices if i not in answered])

        await spread(range(count))
        return [answered[i] for i in range(count)]

    def _next_turn(self, count: int) -> int:
        """Return the number of the worker that comes first, and let the next call begin `count` further on."""
        first, self._turn = self._turn, self._turn + count
        return first

    async def _serving(self) -> list[_Slot]:
        """Return the places whose worker can be asked; wait for a restart while there is none.

        Raises:
            EngineDied: no worker is left, and none will come.
            Exception: whatever a restarted worker was refused with.
        """
        while True:
            for slot in self._slots:
                if slot.restart is not None and slot.restart.done():
                    restart, slot.restart = slot.restart, None
                    restart.result()
            if serving := [slot for slot in self._slots if slot.engine is not None]:
                return serving
            restarts = [slot.restart for slot in self._slots if slot.restart is not None]
            if not restarts:
                raise EngineDied(
                    "every rollout worker died, and rollout.max_restarts is used up; where memory ran out, dmesg or "
                    f"Ray's logs say so; go on with --resume; the last that was heard: {self._last_death}"
                )
            await asyncio.wait(restarts, return_when=asyncio.FIRST_COMPLETED)

    def _mark_dead(self, slot: _Slot, dead: Engine, died: EngineDied) -> None:
        """Start a replacement. Several calls may learn of the same death; the first one acts on it."""
        if slot.engine is not dead:
            return
        log.warning("%s", died)
        self._last_death = str(died)
        slot.engine = None
        slot.failures += 1
        if self._start is not None and not self._closed:
            slot.restart = asyncio.create_task(self._restart(slot, self._start))

    async def _admit_or_close(self, engine: Engine) -> None:
        try:
            if self._admit is not None:
                await self._admit(engine)
        except BaseException:
            await engine.close()
            raise

    async def _restart(self, slot: _Slot, start: Start) -> None:
        while slot.failures <= self._max_restarts:
            await asyncio.sleep(BACK_OFF[min(slot.failures, len(BACK_OFF)) - 1])
            try:
                engine = await start(slot.index)
                await self._admit_or_close(engine)
            except (EngineDied, ValueError) as error:
                # Refused, though the same was accepted once: a dead worker's memory may not be free again yet.
                slot.failures += 1
                self._last_death = str(error)
                log.warning("the next rollout worker %d did not come up: %s", slot.index, error)
                continue
            slot.engine = engine
            log.warning("a new rollout worker %d serves in its place", slot.index)
            return
        log.warning("rollout worker %d died %d times in a row and is given up", slot.index, slot.failures)


async def _all_or_none(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all the work. If a part fails, cancel the others before raising, so that nothing works on unseen."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
