"""A rollout worker's own side: the engine in its process, and signs of life between its answers."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Any, TypeVar

from lora.config import LoraConfig, ModelConfig
from lora.types import Adapter
from rollout.calls.streams import batched
from rollout.config import RolloutConfig, SamplingConfig
from rollout.create import create_engine
from rollout.ray.placement import check_device
from rollout.types import Completion, CompletionPart, Place, PromptLogprobs, PromptQuery
from rollout.vllm.shm_dir import remove_openmp_files

Answer = TypeVar("Answer")

END: Any = object()
"""Stands behind the last part of a stream."""

GATHERED_S = 0.05
"""Seconds for which a completion waits for others to travel with. A message of Ray's takes about a millisecond of the
process that gets it, and there may be thousands of completions a step."""


class EngineActor:
    """The actor's own side. It loads the model in `start`, so that a refusal reaches the caller whole."""

    async def start(
        self, model: ModelConfig, lora: LoraConfig, config: RolloutConfig, seed: int, device: str, threads: int
    ) -> None:
        import torch

        check_device(device)
        torch.set_num_threads(threads)
        remove_openmp_files()
        self._engine = create_engine(model, lora, config, seed=seed, device=device)

    async def stream(
        self,
        prompts: list[list[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        seeds: list[int],
        beat: float,
        top_logprobs: int = 0,
    ) -> AsyncGenerator[tuple[int, list[Completion]] | None]:
        """Yield the engine's answers, and None every `beat` seconds without one in which it still made progress.

        If the call is cancelled, the engine knows of it when this ends.
        """
        stream = self._engine.stream(prompts, adapter, sampling, seeds=seeds, top_logprobs=top_logprobs)
        async with contextlib.aclosing(stream) as answers:
            for _ in prompts:
                async with contextlib.aclosing(self._beats(anext(answers), beat)) as beats:
                    async for answer in beats:
                        yield answer

    async def stream_places(
        self, prompts: list[list[int]], adapter: Adapter, sampling: SamplingConfig, seeds: list[int],
        places: list[Sequence[int]], beat: float,
    ) -> AsyncGenerator[list[tuple[Place, Completion]] | None]:  # fmt: skip
        """Yield the engine's completions, several at a time if they end together, and None as `stream` does."""
        stream = self._engine.stream_places(prompts, adapter, sampling, seeds=seeds, places=places)
        async with contextlib.aclosing(batched(stream, GATHERED_S)) as batches:
            while True:
                async with contextlib.aclosing(self._beats(anext(batches, END), beat)) as beats:
                    async for batch in beats:
                        if batch is END:
                            return
                        yield batch

    async def stream_parts(
        self,
        prompt: list[int],
        adapter: Adapter,
        sampling: SamplingConfig,
        seed: int,
        beat: float,
        top_logprobs: int = 0,
    ) -> AsyncGenerator[CompletionPart | None]:
        """Yield the engine's parts, and None as `stream` does."""
        stream = self._engine.stream_parts(prompt, adapter, sampling, seed=seed, top_logprobs=top_logprobs)
        async with contextlib.aclosing(stream) as parts:
            while True:
                async with contextlib.aclosing(self._beats(anext(parts, END), beat)) as beats:
                    async for part in beats:
                        if part is END:
                            return
                        yield part

    async def score_prompts(
        self, prompts: list[list[int]], adapter: Adapter, queries: list[PromptQuery], beat: float
    ) -> AsyncGenerator[list[PromptLogprobs] | None]:
        """Yield the engine's answer in the end, and None before that as `stream` does."""
        answer = self._engine.score_prompts(prompts, adapter, queries)
        async with contextlib.aclosing(self._beats(answer, beat)) as beats:
            async for each in beats:
                yield each

    async def _beats(self, waited_for: Awaitable[Answer], beat: float) -> AsyncGenerator[Answer | None]:
        """Yield the answer in the end, and None every `beat` seconds in which the engine made progress."""
        seen = self._engine.progress()
        answer = asyncio.ensure_future(waited_for)
        try:
            while not (await asyncio.wait([answer], timeout=beat))[0]:
                seen, before = self._engine.progress(), seen
                if seen > before:
                    yield None
        finally:
            answer.cancel()
            await asyncio.wait([answer])  # before that, what it waits for cannot be closed
        yield await answer

    async def close(self) -> None:
        await self._engine.close()
        remove_openmp_files(own=True)  # its handle kills the process next

    async def pid(self) -> int:
        return os.getpid()
