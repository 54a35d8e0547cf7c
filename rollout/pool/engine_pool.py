"""Several engines as one: spread what they are asked, hand a dead worker's to the others, keep the order."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

from lora.types import Adapter
from rollout.config import SamplingConfig
from rollout.pool.dispatch import Dispatcher, Load, Slot
from rollout.pool.pieces import Piece, completions, scores, whole_prompts
from rollout.types import Completion, CompletionPart, Engine, EngineDied, Place, PromptLogprobs, PromptQuery

log = logging.getLogger(__name__)

Start = Callable[[int], Awaitable[Engine]]
"""Brings an engine for the place of that index."""
Admit = Callable[[Engine], Awaitable[None]]

Answer = TypeVar("Answer")

BACK_OFF = (0.0, 2.0, 10.0, 30.0, 60.0)
"""Seconds before the first restart in a row, the second, ..."""


class EnginePool(Engine):
    """Every prompt is answered exactly once, whichever workers die meanwhile.

    What a dead worker had not finished goes to the others at once. A new one is started in its place, beside the work
    that goes on, and serves once `admit` has let it in. A worker that dies `max_restarts` times in a row without an
    answer is given up.
    """

    def __init__(
        self, engines: Sequence[Engine], start: Start | None = None, admit: Admit | None = None, max_restarts: int = 0,
        *, max_concurrent: int = 65_536,
    ) -> None:  # fmt: skip
        """Each engine generates `max_concurrent` sequences at once."""
        assert engines
        self._slots = [Slot(index, engine) for index, engine in enumerate(engines)]
        self._at_once = max_concurrent
        self._dispatcher = Dispatcher(self._serving_now, self._mark_dead, max_concurrent)
        self._start = start
        self._admit = admit
        self._max_restarts = max_restarts
        self._closed = False
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
        async def ask(engine: Engine, pieces: Sequence[Piece]) -> AsyncGenerator[tuple[Place, list[Completion]]]:
            part, part_seeds = [prompts[piece.index] for piece in pieces], [seeds[piece.index] for piece in pieces]
            stream = engine.stream(part, adapter, sampling, seeds=part_seeds, top_logprobs=top_logprobs)
            async with aclosing(stream) as answers:
                async for index, group in answers:
                    yield (pieces[index].index, 0), group

        answers = self._dispatcher.answers(whole_prompts(prompts, sampling), ask)
        return await _in_order(answers, len(prompts))

    async def stream_completions(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
    ) -> AsyncGenerator[tuple[Place, Completion]]:
        """As the protocol has it. Of a prompt that a dead worker had begun, the others write what is missing."""

        async def ask(engine: Engine, pieces: Sequence[Piece]) -> AsyncGenerator[tuple[Place, Completion]]:
            part, part_seeds = [prompts[piece.index] for piece in pieces], [seeds[piece.index] for piece in pieces]
            if all(len(piece.places) == sampling.group_size for piece in pieces):
                stream = engine.stream_completions(part, adapter, sampling, seeds=part_seeds)
            else:
                places = [piece.places for piece in pieces]
                stream = engine.stream_places(part, adapter, sampling, seeds=part_seeds, places=places)
            async with aclosing(stream) as written:
                async for (index, place), completion in written:
                    yield (pieces[index].index, place), completion

        pieces = completions(prompts, sampling, self._at_once)
        async with aclosing(self._dispatcher.answers(pieces, ask)) as answers:
            async for each in answers:
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
        (piece,) = whole_prompts([prompt], sampling)
        while True:
            slot = self._dispatcher.least_loaded(await self._serving())
            engine = slot.engine
            assert engine is not None
            stream = engine.stream_parts(prompt, adapter, sampling, seed=seed, top_logprobs=top_logprobs)
            try:
                with self._dispatcher.counted(slot, piece):
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
            slot = self._dispatcher.least_loaded(await self._serving())
            engine = slot.engine
            assert engine is not None
            try:
                return await engine.score(sequences, adapter)
            except EngineDied as died:
                self._mark_dead(slot, engine, died)

    async def score_prompts(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, queries: Sequence[PromptQuery]
    ) -> list[PromptLogprobs]:
        async def ask(engine: Engine, pieces: Sequence[Piece]) -> AsyncGenerator[tuple[Place, PromptLogprobs]]:
            part, part_queries = [prompts[piece.index] for piece in pieces], [queries[piece.index] for piece in pieces]
            for piece, answer in zip(pieces, await engine.score_prompts(part, adapter, part_queries), strict=True):
                yield (piece.index, 0), answer

        if len(queries) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many queries, and there are {len(queries)}")
        return await _in_order(self._dispatcher.answers(scores(prompts), ask), len(prompts))

    def replicas(self) -> Sequence[Engine]:
        return [slot.engine for slot in self._slots if slot.engine is not None]

    async def close(self) -> None:
        self._closed = True
        restarts = [slot.restart for slot in self._slots if slot.restart is not None]
        for restart in restarts:
            restart.cancel()
        await asyncio.gather(*restarts, return_exceptions=True)
        await asyncio.gather(*(engine.close() for engine in self.replicas()))

    async def _serving(self) -> list[Slot]:
        """Return the places whose worker can be asked; wait for a restart while there is none. Raises what
        `_serving_now` does."""
        while not (serving := self._serving_now()):
            restarts = [slot.restart for slot in self._slots if slot.restart is not None]
            await asyncio.wait(restarts, return_when=asyncio.FIRST_COMPLETED)
        return serving

    def _serving_now(self) -> list[Slot]:
        """Return the places whose worker can be asked; none while all of them are started again.

        Raises:
            EngineDied: no worker is left, and none will come.
            Exception: whatever a restarted worker was refused with.
        """
        for slot in self._slots:
            if slot.restart is not None and slot.restart.done():
                restart, slot.restart = slot.restart, None
                restart.result()
        serving = [slot for slot in self._slots if slot.engine is not None]
        if not serving and all(slot.restart is None for slot in self._slots):
            raise EngineDied(
                "every rollout worker died, and rollout.max_restarts is used up; where memory ran out, dmesg or "
                f"Ray's logs say so; go on with --resume; the last that was heard: {self._last_death}"
            )
        return serving

    def _mark_dead(self, slot: Slot, dead: Engine, died: EngineDied) -> None:
        """Start a replacement. Several calls may learn of the same death; the first one acts on it."""
        if slot.engine is not dead:
            return
        log.warning("%s", died)
        self._last_death = str(died)
        slot.engine, slot.load = None, Load()
        slot.failures += 1
        if self._start is not None and not self._closed:
            slot.restart = asyncio.create_task(self._restart(slot, self._start))
            slot.restart.add_done_callback(lambda _: self._dispatcher.hand_out())

    async def _admit_or_close(self, engine: Engine) -> None:
        try:
            if self._admit is not None:
                await self._admit(engine)
        except BaseException:
            await engine.close()
            raise

    async def _restart(self, slot: Slot, start: Start) -> None:
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


async def _in_order(answers: AsyncGenerator[tuple[Place, Answer]], count: int) -> list[Answer]:
    """Return the answers to so many prompts in their order."""
    async with aclosing(answers) as stream:
        by_index = {index: answer async for (index, _), answer in stream}
    return [by_index[i] for i in range(count)]
