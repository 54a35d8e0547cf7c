"""An engine on a thread with an event loop of its own, so that its steps keep nobody else's loop waiting."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Self, TypeVar

import torch

from lora.types import Adapter
from rollout.calls.streams import relayed
from rollout.config import SamplingConfig
from rollout.types import Completion, CompletionPart, Engine, Place, PromptLogprobs, PromptQuery

T = TypeVar("T")


class ThreadedEngine(Engine):
    """An `Engine` whose every call runs on one thread. Calls may come from any event loop."""

    def __init__(self, make: Callable[[], Engine]) -> None:
        """Make the engine on the thread. Raises what `make` raises."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine", daemon=True)
        self._thread.start()
        try:
            self._engine = asyncio.run_coroutine_threadsafe(_made(make, torch.get_num_threads()), self._loop).result()
        except BaseException:
            self._stop()
            raise

    @classmethod
    async def start(cls, make: Callable[[], Engine]) -> Self:
        """Return the engine once it is made, and leave the event loop free until then."""
        return await asyncio.to_thread(cls, make)

    async def sample(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
        top_logprobs: int = 0,
    ) -> list[list[Completion]]:
        return await self._call(self._engine.sample(prompts, adapter, sampling, seeds=seeds, top_logprobs=top_logprobs))

    async def stream_places(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
        places: Sequence[Sequence[int]],
    ) -> AsyncGenerator[tuple[Place, Completion]]:
        stream = self._engine.stream_places(prompts, adapter, sampling, seeds=seeds, places=places)
        async with aclosing(self._relay(stream)) as relay:
            async for each in relay:
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
        stream = self._engine.stream_parts(prompt, adapter, sampling, seed=seed, top_logprobs=top_logprobs)
        async with aclosing(self._relay(stream)) as relay:
            async for part in relay:
                yield part

    async def score(self, sequences: Sequence[Sequence[int]], adapter: Adapter) -> list[list[float]]:
        return await self._call(self._engine.score(sequences, adapter))

    async def score_prompts(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, queries: Sequence[PromptQuery]
    ) -> list[PromptLogprobs]:
        return await self._call(self._engine.score_prompts(prompts, adapter, queries))

    def progress(self) -> int:
        return self._engine.progress()

    def replicas(self) -> Sequence[Engine]:
        return [self]

    async def close(self) -> None:
        """Release the engine, and end its thread."""
        if not self._loop.is_closed():
            await self._call(self._engine.close())
            await asyncio.to_thread(self._stop)

    async def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what some work on the thread returns; it is cancelled with its caller."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _relay(self, stream: AsyncGenerator[T]) -> AsyncGenerator[T]:
        """Yield here what a stream yields on the thread."""
        here, items = asyncio.get_running_loop(), asyncio.Queue[T]()

        async def pump() -> None:
            async with aclosing(stream):
                async for item in stream:
                    here.call_soon_threadsafe(items.put_nowait, item)

        async with aclosing(relayed(items, self._call(pump()))) as relay:
            async for item in relay:
                yield item

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _made(make: Callable[[], Engine], num_threads: int) -> Engine:
    torch.set_num_threads(num_threads)  # the caller's, so that the thread computes the bits that the caller would
    return make()
