"""A `PolicyHost` in a Ray actor."""

import asyncio
import os
from collections.abc import Callable
from typing import Any, Self

import ray
from ray.exceptions import RayError, RayTaskError

from rl.learner.policy_host import LearnerHost, LearnerSpec
from rl.types import LearnerDied
from rollout.actor import STORE_FULL, describe_death
from rollout.environment import torch_environment
from rollout.placement import ActorPlacement, check_device


class HostActor:
    """What runs inside the actor. It loads the model in `start`, so that a refusal reaches the caller whole."""

    async def start(self, threads: int, spec: LearnerSpec) -> None:
        import torch

        from rl.learner.policy_host import PolicyHost

        check_device(spec.device)
        torch.set_num_threads(threads)
        self._host = PolicyHost(spec)

    async def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self._host, method)(*arguments)

    async def pid(self) -> int:
        return os.getpid()


class RayHost(LearnerHost):
    """Every call raises `LearnerDied` if the actor is gone or silent."""

    def __init__(self, spec: LearnerSpec, place: Callable[[], ActorPlacement], stall_timeout: float) -> None:
        self._spec = spec
        self._place = place
        self._stall_timeout = stall_timeout
        self._handle: Any = None

    @classmethod
    async def start(cls, spec: LearnerSpec, place: Callable[[], ActorPlacement], *, stall_timeout: float) -> Self:
        """Start an actor at what is its place each time it starts. Raises ValueError if there is no such model."""
        host = cls(spec, place, stall_timeout)
        await host.restart()
        return host

    async def restart(self) -> None:
        await self.close()
        actor: Any = ray.remote(HostActor)
        place = self._place()
        environment = torch_environment(on_gpu=bool(place.gpus))
        self._handle = actor.options(runtime_env={"env_vars": environment}, **place.actor_options()).remote()
        try:
            await self._reply(self._handle.start.remote(place.threads, self._spec))
        except BaseException:  # also when the start is cancelled: nobody else knows of the actor yet
            await self.close()
            raise

    async def call(self, method: str, *arguments: Any) -> Any:
        return await self._reply(self._handle.call.remote(method, *arguments))

    async def close(self) -> None:
        if self._handle is not None:
            ray.kill(self._handle)

    async def pid(self) -> int:
        """The actor's process id, on its node."""
        return await self._reply(self._handle.pid.remote())

    async def _reply(self, reference: Any) -> Any:
        try:
            async with asyncio.timeout(self._stall_timeout):
                return await reference
        except RayTaskError as error:
            raise error.cause from error
        except STORE_FULL:
            raise
        except RayError as error:  # its process or node is gone, or can no longer be reached, or what it answered is
            await self.close()
            raise LearnerDied(f"the learner died: {describe_death(error)}") from error
        except TimeoutError as error:
            await self.close()
            raise LearnerDied(f"the learner said nothing for {self._stall_timeout:g} s") from error
