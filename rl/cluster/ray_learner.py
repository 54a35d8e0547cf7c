"""Learners in Ray actors, behind a handle that is one `Learner` itself."""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import ray
from ray.exceptions import RayError, RayTaskError

from lora.types import Adapter
from rl.algorithm.batch import split_rows
from rl.types import Learner, LearnerDied, TrainBatch
from rollout.actor import STORE_FULL, describe_death
from rollout.environment import torch_environment
from rollout.placement import ActorPlacement, check_device

LIVE_ACTOR_ERRORS = (RayTaskError, *STORE_FULL)
"""Of Ray's errors. Any other means that a process or node is gone, cannot be reached, or has lost its answer."""
GRACE_S = 5.0
"""How long the others may take to notice that one of them is gone."""


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """Where learners that share a step find each other."""

    address: str
    rank: int
    count: int
    shard: bool


class LearnerActor:
    """What runs inside an actor. It loads the model in `start`, so that a refusal reaches the caller whole."""

    async def start(self, threads: int, arguments: dict[str, Any], meeting: Rendezvous | None) -> None:
        import torch

        from rl.learner.collectives import init_process_group
        from rl.learner.torch_learner import TorchLearner

        check_device(arguments["device"])
        torch.set_num_threads(threads)
        if meeting is not None:
            place = meeting.address, meeting.rank, meeting.count
            arguments = arguments | {"peers": init_process_group(arguments["device"], *place, in_step=meeting.shard)}
        self._learner = TorchLearner(**arguments)

    async def address(self) -> str:
        """A free port of this node, for the others to meet at."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{probe.getsockname()[1]}"

    async def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        return await getattr(self._learner, method)(*arguments, **options)

    async def pid(self) -> int:
        return os.getpid()


class RayLearner(Learner):
    """Learners as their user sees them: as one. Every call raises `LearnerDied` if one of the actors is gone or silent.

    Several divide a step's rows and add up their gradients, so each makes the whole step's update.
    """

    def __init__(
        self,
        arguments: dict[str, Any],
        place: Callable[[int], ActorPlacement],
        *,
        stall_timeout: float,
        count: int = 1,
        shard: bool = False,
    ) -> None:
        self._arguments = arguments
        self._place = place
        self._stall_timeout = stall_timeout
        self._count = count
        self._shard = shard
        self._handles: list[Any] = []

    @classmethod
    async def start(cls, arguments: dict[str, Any], place: Callable[[int], ActorPlacement], **options: Any) -> Self:
        """Start an actor for each learner, with a `TorchLearner` of these arguments in it, at what is its place then.

        Raises:
            ValueError: the learner refused its arguments, e.g. there is no such model.
        """
        learner = cls(arguments, place, **options)
        await learner._start()
        return learner

    async def restart(self) -> None:
        await self.close()  # one that cannot be reached may still hold its GPU
        try:
            await self._start()
        except ValueError as error:  # refused, though the same was accepted once
            raise LearnerDied(f"the learner did not come back: {error}") from error

    async def _start(self) -> None:
        places = [self._place(rank) for rank in range(self._count)]
        self._handles = [_actor(place) for place in places]
        try:
            meetings: list[Rendezvous | None] = [None]
            if self._count > 1:
                (address,) = await self._replies([self._handles[0].address.remote()])
                meetings = [Rendezvous(address, rank, self._count, self._shard) for rank in range(self._count)]
            await self._replies(
                handle.start.remote(place.threads, self._arguments, meeting)
                for handle, place, meeting in zip(self._handles, places, meetings, strict=True)
            )
        except BaseException:  # also when the start is cancelled: nobody else knows of the actors yet
            await self.close()
            raise

    async def publish(self) -> Adapter:
        return await self._call("publish")

    async def update(self, batch: TrainBatch, *, lr_scale: float = 1.0) -> dict[str, float]:
        parts = [replace(batch, rows=rows) for rows in split_rows(batch.rows, self._count)]
        metrics = await self._replies(
            handle.call.remote("update", part, lr_scale=lr_scale)
            for handle, part in zip(self._started(), parts, strict=True)
        )
        return metrics[0]

    async def score(
        self, sequences: Sequence[Sequence[int]], *, under: Adapter | Literal["policy", "base"] = "policy"
    ) -> list[list[float]]:
        listed = [list(sequence) for sequence in sequences]
        # Who holds only a part of the model cannot score alone.
        return await self._call("score", listed, under=under, everybody=self._shard)

    async def state(self) -> bytes:
        return await self._call("state")

    async def load_state(self, state: bytes) -> None:
        await self._call("load_state", state, everybody=True)

    async def facts(self) -> Mapping[str, int]:
        return await self._call("facts")

    async def close(self) -> None:
        for handle in self._handles:
            ray.kill(handle)
        self._handles = []

    async def pid(self, rank: int = 0) -> int:
        """An actor's process id, on its node."""
        return (await self._replies([self._started()[rank].pid.remote()]))[0]

    def _started(self) -> list[Any]:
        """The actors. Another caller may have heard of their death first, and closed them."""
        if not self._handles:
            raise LearnerDied("the learner died, and has not been started again")
        return self._handles

    async def _call(self, method: str, *arguments: Any, everybody: bool = False, **options: Any) -> Any:
        asked = self._started() if everybody else self._started()[:1]
        return (await self._replies(handle.call.remote(method, *arguments, **options) for handle in asked))[0]

    async def _replies(self, references: Any) -> list[Any]:
        """All answers; the death of one learner is the death of all, because the others wait for it."""
        waiting = [asyncio.ensure_future(_answer(reference)) for reference in references]
        try:
            done, late = await asyncio.wait(waiting, timeout=self._stall_timeout, return_when=asyncio.FIRST_EXCEPTION)
            if late and any(one.exception() for one in done):
                more, late = await asyncio.wait(late, timeout=GRACE_S)
                done |= more
        finally:
            for one in waiting:
                one.cancel()
        errors = [error for one in done if (error := one.exception()) is not None]
        deaths = [error for error in errors if isinstance(error, RayError) and not isinstance(error, LIVE_ACTOR_ERRORS)]
        if late or deaths:
            await self.close()
            reason = describe_death(deaths[0]) if deaths else f"it said nothing for {self._stall_timeout:g} s"
            raise LearnerDied(f"the learner died: {reason}") from (deaths[0] if deaths else None)
        for error in errors:
            raise (error.cause if isinstance(error, RayTaskError) else error) from error
        return [one.result() for one in waiting]


def _actor(place: ActorPlacement) -> Any:
    actor: Any = ray.remote(LearnerActor)
    environment = torch_environment(on_gpu=bool(place.gpus))
    return actor.options(runtime_env={"env_vars": environment}, **place.actor_options()).remote()


async def _answer(reference: Any) -> Any:
    return await reference
