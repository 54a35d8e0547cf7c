"""A learner in a Ray actor, behind a handle that is a `Learner` itself."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Literal, Self

import ray
from ray.exceptions import RayError, RayTaskError

from lora.types import Adapter
from rl.types import Learner, LearnerDied, TrainBatch
from rollout.actor import STORE_FULL, account
from rollout.place import Place


class LearnerActor:
    """What runs inside the actor. It loads the model in `start`, so that a refusal reaches the caller whole."""

    async def start(self, threads: int, arguments: dict[str, Any]) -> None:
        import torch

        from rl.learner import TorchLearner

        torch.set_num_threads(threads)
        self._learner = TorchLearner(**arguments)

    async def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        return await getattr(self._learner, method)(*arguments, **options)

    async def pid(self) -> int:
        return os.getpid()


class RayLearner(Learner):
    """A learner as its user sees it. Every call raises `LearnerDied` if the actor is gone or silent."""

    def __init__(self, arguments: dict[str, Any], place: Callable[[], Place], *, stall_timeout: float) -> None:
        self._arguments = arguments
        self._place = place
        self._stall_timeout = stall_timeout
        self._handle: Any = None

    @classmethod
    async def start(cls, arguments: dict[str, Any], place: Callable[[], Place], *, stall_timeout: float) -> Self:
        """Start an actor with a `TorchLearner` of these arguments in it, at what is its place each time it starts.

        Raises:
            ValueError: the learner refused its arguments, e.g. there is no such model.
        """
        learner = cls(arguments, place, stall_timeout=stall_timeout)
        await learner._start()
        return learner

    async def restart(self) -> None:
        await self.close()  # one that cannot be reached may still hold its GPU
        try:
            await self._start()
        except ValueError as error:  # refused, though the same was accepted once
            raise LearnerDied(f"the learner did not come back: {error}") from error

    async def _start(self) -> None:
        actor: Any = ray.remote(LearnerActor)
        place = self._place()
        environment = {"OMP_WAIT_POLICY": "passive", "TOKENIZERS_PARALLELISM": "false"}
        self._handle = actor.options(runtime_env={"env_vars": environment}, **place.actor_options()).remote()
        try:
            await self._reply(self._handle.start.remote(place.threads, self._arguments))
        except BaseException:  # also when the start is cancelled: nobody else knows of the actor yet
            await self.close()
            raise

    async def publish(self) -> Adapter:
        return await self._call("publish")

    async def update(self, batch: TrainBatch, *, lr_scale: float = 1.0) -> dict[str, float]:
        return await self._call("update", batch, lr_scale=lr_scale)

    async def score(
        self, sequences: Sequence[Sequence[int]], *, under: Adapter | Literal["policy", "base"] = "policy"
    ) -> list[list[float]]:
        return await self._call("score", [list(sequence) for sequence in sequences], under=under)

    async def state(self) -> bytes:
        return await self._call("state")

    async def load_state(self, state: bytes) -> None:
        await self._call("load_state", state)

    async def facts(self) -> Mapping[str, int]:
        return await self._call("facts")

    async def close(self) -> None:
        ray.kill(self._handle)

    async def pid(self) -> int:
        """The actor's process id, on its node."""
        return await self._reply(self._handle.pid.remote())

    async def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        return await self._reply(self._handle.call.remote(method, *arguments, **options))

    async def _reply(self, reference: Any) -> Any:
        with self._translated_errors():
            return await asyncio.wait_for(reference, timeout=self._stall_timeout)

    @contextlib.contextmanager
    def _translated_errors(self) -> Generator[None]:
        try:
            yield
        except RayTaskError as error:
            raise error.cause from error
        except STORE_FULL:
            raise
        except RayError as error:  # its process or node is gone, or can no longer be reached, or what it answered is
            raise LearnerDied(f"the learner died: {account(error)}") from error
        except TimeoutError as error:
            ray.kill(self._handle)
            raise LearnerDied(f"the learner said nothing for {self._stall_timeout:g} s") from error
