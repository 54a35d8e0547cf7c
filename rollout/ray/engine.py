"""A rollout worker: an engine in a Ray actor, behind a handle that is an `Engine` itself."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Any, Self

import ray
from ray.exceptions import RayError, RayTaskError

from lora.config import LoraConfig, ModelConfig
from lora.types import Adapter
from rollout.config import RolloutConfig, SamplingConfig
from rollout.environment import torch_environment, worker_environment
from rollout.ray.actor import EngineActor
from rollout.ray.errors import cause, describe_death, is_death
from rollout.ray.placement import ActorPlacement
from rollout.types import Completion, CompletionPart, Engine, EngineDied, Place, PromptLogprobs, PromptQuery
from rollout.vllm.start import MEMORY_HINT

MOST_CALLS = 4096
"""Calls that a worker takes at once. One beyond would wait in Ray, unseen, and its worker would seem silent."""


class AdapterStore:
    """Puts each adapter into Ray's object store once, however many workers and calls use it."""

    def __init__(self, keep: int = 4) -> None:
        self._keep = keep
        self._references: dict[str, Any] = {}

    def reference(self, adapter: Adapter) -> Any:
        """Return the adapter's object reference; the oldest beyond `keep` are let go."""
        if adapter.name not in self._references:
            self._references[adapter.name] = ray.put(adapter)
            for name in list(self._references)[: -self._keep]:
                del self._references[name]
        return self._references[adapter.name]


class RayEngine(Engine):
    """A worker as its user sees it: an `Engine`.

    Every call raises `EngineDied` if the worker is gone. A call that is cancelled is cancelled in the worker too.
    """

    def __init__(self, handle: Any, store: AdapterStore, stall_timeout: float, index: int = 0) -> None:
        self.name = f"rollout worker {index}"
        self._handle = handle
        self._store = store
        self._stall_timeout = stall_timeout

    @classmethod
    async def start(
        cls,
        model: ModelConfig,
        lora: LoraConfig,
        config: RolloutConfig,
        store: AdapterStore,
        *,
        seed: int,
        place: ActorPlacement,
        index: int = 0,
    ) -> Self:
        """Start a worker at that place and wait until it can sample; `index` tells it from the others.

        Raises:
            ValueError: the worker's set-up was refused, e.g. there is no such model.
        """
        handle = _create_actor(config, place)
        engine = cls(handle, store, config.stall_timeout, index)
        try:
            device = "cuda" if place.gpus else "cpu"
            with engine._translated_errors(config.start_timeout):
                ready = handle.start.remote(model, lora, config, seed, device, place.threads)
                async with asyncio.timeout(config.start_timeout):
                    await ready
        except EngineDied as died:
            engine.kill()
            raise EngineDied(
                f"{died}, while it started; the kernel's log says if memory ran out{MEMORY_HINT}"
            ) from died
        except BaseException:  # also when the start is cancelled: nobody else knows of the actor yet
            engine.kill()
            raise
        return engine

    async def sample(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
        top_logprobs: int = 0,
    ) -> list[list[Completion]]:
        stream = self.stream(prompts, adapter, sampling, seeds=seeds, top_logprobs=top_logprobs)
        answered = {index: completions async for index, completions in stream}
        return [answered[i] for i in range(len(prompts))]

    async def stream(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
        top_logprobs: int = 0,
    ) -> AsyncGenerator[tuple[int, list[Completion]]]:
        arguments = _lists(prompts), self._store.reference(adapter), sampling, list(seeds), self._beat, top_logprobs
        async with contextlib.aclosing(self._answers(self._handle.stream, len(prompts), *arguments)) as answers:
            async for answer in answers:
                yield answer

    async def stream_completions(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
    ) -> AsyncGenerator[tuple[Place, Completion]]:
        every = [range(sampling.group_size)] * len(prompts)
        stream = self.stream_places(prompts, adapter, sampling, seeds=seeds, places=every)
        async with contextlib.aclosing(stream) as completions:
            async for each in completions:
                yield each

    async def stream_places(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
        places: Sequence[Sequence[int]],
    ) -> AsyncGenerator[tuple[Place, Completion]]:
        asked = list(seeds), list(places)
        arguments = _lists(prompts), self._store.reference(adapter), sampling, *asked, self._beat
        async with contextlib.aclosing(self._answers(self._handle.stream_places, None, *arguments)) as batches:
            async for batch in batches:
                for each in batch:
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
        arguments = list(prompt), self._store.reference(adapter), sampling, seed, self._beat, top_logprobs
        async with contextlib.aclosing(self._answers(self._handle.stream_parts, None, *arguments)) as parts:
            async for part in parts:
                yield part

    async def score(self, sequences: Sequence[Sequence[int]], adapter: Adapter) -> list[list[float]]:
        # Not by a call of its own, which could not tell of the engine's progress with what is before it.
        answers = await self.score_prompts(sequences, adapter, [PromptQuery()] * len(sequences))
        return [[logprob for logprob in answer.logprobs[1:] if logprob is not None] for answer in answers]

    async def score_prompts(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, queries: Sequence[PromptQuery]
    ) -> list[PromptLogprobs]:
        arguments = _lists(prompts), self._store.reference(adapter), list(queries), self._beat
        (answer,) = [each async for each in self._answers(self._handle.score_prompts, 1, *arguments)]
        return answer

    def replicas(self) -> Sequence[Engine]:
        return [self]

    async def pid(self) -> int:
        """The worker's process id, on its node."""
        return await self._call(self._handle.pid)

    async def close(self) -> None:
        with contextlib.suppress(RayError, TimeoutError):  # it is gone already, or is made to go now
            async with asyncio.timeout(10):
                await self._handle.close.remote()
        self.kill()

    def kill(self) -> None:
        """End the worker's process at once."""
        ray.kill(self._handle)

    @property
    def _beat(self) -> float:
        """Seconds between two signs of life of a worker that is at work."""
        return self._stall_timeout / 4

    async def _answers(self, method: Any, count: int | None, *arguments: Any) -> AsyncGenerator[Any]:
        """Yield as many answers, or all, of a method that also says now and then that its worker is at work."""
        given = 0
        with self._translated_errors(self._stall_timeout):
            answers = method.options(num_returns="streaming").remote(*arguments)
            with _cancelled_with_its_user(answers):
                while count != given:
                    async with asyncio.timeout(self._stall_timeout):
                        reference = await anext(answers, None)
                    if reference is None:
                        return
                    answer = await reference
                    if answer is not None:
                        given += 1
                        yield answer

    async def _call(self, method: Any, *arguments: Any) -> Any:
        with self._translated_errors(self._stall_timeout):
            reference = method.remote(*arguments)
            with _cancelled_with_its_user(reference):
                async with asyncio.timeout(self._stall_timeout):
                    return await reference

    @contextlib.contextmanager
    def _translated_errors(self, timeout: float) -> Generator[None]:
        """Raise the worker's own errors as they were raised there, and `EngineDied` for one that is gone or silent."""
        try:
            yield
        except RayTaskError as error:
            if isinstance(error.cause, EngineDied):  # its process is there, and good for nothing
                self.kill()
            raise cause(error) from error
        except RayError as error:
            if not is_death(error):
                raise
            self.kill()
            raise EngineDied(f"{self.name} died: {describe_death(error)}") from error
        except TimeoutError as error:
            self.kill()
            raise EngineDied(f"{self.name} said nothing for {timeout:g} s") from error


def _create_actor(config: RolloutConfig, place: ActorPlacement) -> Any:
    """Create a worker's actor, without an engine, in a process with the variables that its engine needs."""
    on_gpu = place.gpus > 0
    if config.engine == "vllm":
        environment = worker_environment(config, threads=place.threads, on_gpu=on_gpu)
    else:
        environment = torch_environment(on_gpu=on_gpu)
    actor: Any = ray.remote(EngineActor)
    return actor.options(
        runtime_env={"env_vars": environment}, max_concurrency=MOST_CALLS, **place.actor_options()
    ).remote()


@contextlib.contextmanager
def _cancelled_with_its_user(call: Any) -> Generator[None]:
    """Cancel the call inside the actor if its caller is cancelled: by itself an actor would work on."""
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        if ray.is_initialized():  # or all of it is gone, and asking would start another cluster
            ray.cancel(call)
        raise


def _lists(sequences: Sequence[Sequence[int]]) -> list[list[int]]:
    return [list(sequence) for sequence in sequences]
