"""A rollout worker: an engine in a Ray actor, behind a handle that is an `Engine` itself."""

import asyncio
import contextlib
import os
from collections.abc import Sequence
from typing import Any, Self

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from lora.config import LoraConfig, ModelConfig
from lora.types import Adapter
from rollout.config import RolloutConfig, SamplingConfig
from rollout.create import create_engine
from rollout.environment import worker_environment
from rollout.types import Completion, Engine


class EngineDied(RuntimeError):
    """A worker ended, or said nothing for `rollout.stall_timeout` seconds. Its prompts may be given to another."""


class EngineActor:
    """What runs inside the actor. It loads the model in `start`, so that a refusal reaches the caller whole."""

    async def start(
        self, model: ModelConfig, lora: LoraConfig, config: RolloutConfig, seed: int, device: str, threads: int
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        self._engine = create_engine(model, lora, config, seed=seed, device=device)

    async def sample(
        self, prompts: list[list[int]], adapter: Adapter, sampling: SamplingConfig, seeds: list[int]
    ) -> list[list[Completion]]:
        return await self._engine.sample(prompts, adapter, sampling, seeds=seeds)

    async def score(self, sequences: list[list[int]], adapter: Adapter) -> list[list[float]]:
        return await self._engine.score(sequences, adapter)

    async def close(self) -> None:
        await self._engine.close()

    async def pid(self) -> int:
        return os.getpid()


class AdapterStore:
    """Puts each adapter into Ray's object store once, however many workers and calls use it."""

    def __init__(self, keep: int = 4) -> None:
        self._keep = keep
        self._references: dict[str, Any] = {}

    def reference(self, adapter: Adapter) -> Any:
        """The adapter's object reference; the oldest beyond `keep` are let go."""
        if adapter.name not in self._references:
            self._references[adapter.name] = ray.put(adapter)
            for name in list(self._references)[: -self._keep]:
                del self._references[name]
        return self._references[adapter.name]


class RayEngine(Engine):
    """A worker as its user sees it: an `Engine`. Every call raises `EngineDied` if the worker is gone."""

    def __init__(self, handle: Any, store: AdapterStore, stall_timeout: float) -> None:
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
        threads: int,
        gpus: float,
        options: dict[str, Any] | None = None,
    ) -> Self:
        """Start a worker and wait until it can sample.

        Raises:
            ValueError: the worker's set-up was refused, e.g. there is no such model.
        """
        environment = worker_environment(config, threads=threads, on_gpu=gpus > 0) if config.engine == "vllm" else {}
        actor: Any = ray.remote(EngineActor)
        resources = {"num_gpus": gpus} if gpus else {"num_cpus": 0.1}
        handle = actor.options(
            runtime_env={"env_vars": environment}, max_concurrency=64, **resources, **(options or {})
        ).remote()
        engine = cls(handle, store, config.stall_timeout)
        await engine._call(handle.start, model, lora, config, seed, "cuda" if gpus else "cpu", threads)
        return engine

    async def sample(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        reference = self._store.reference(adapter)
        return await self._call(self._handle.sample, [list(p) for p in prompts], reference, sampling, list(seeds))

    async def score(self, sequences: Sequence[Sequence[int]], adapter: Adapter) -> list[list[float]]:
        reference = self._store.reference(adapter)
        return await self._call(self._handle.score, [list(s) for s in sequences], reference)

    def replicas(self) -> Sequence[Engine]:
        return [self]

    async def pid(self) -> int:
        """The worker's process id, on its node."""
        return await self._call(self._handle.pid)

    async def close(self) -> None:
        with contextlib.suppress(RayError, TimeoutError):  # it is gone already, or is made to go now
            await asyncio.wait_for(self._handle.close.remote(), timeout=10)
        self.kill()

    def kill(self) -> None:
        """End the worker's process at once."""
        ray.kill(self._handle)

    async def _call(self, method: Any, *arguments: Any) -> Any:
        try:
            return await asyncio.wait_for(method.remote(*arguments), timeout=self._stall_timeout)
        except RayTaskError as error:
            raise error.cause from error
        except RayActorError as error:
            raise EngineDied(f"a rollout worker died: {str(error).splitlines()[0]}") from error
        except TimeoutError as error:
            self.kill()
            raise EngineDied(f"a rollout worker said nothing for {self._stall_timeout:g} s") from error
