"""Policies that learn together: each has a `Learner` of its own, and their updates are gathered into one.

A round runs when every policy that is still training has brought its batch. One that ends, however it ends, leaves, so
that nobody waits for it for ever. If the host dies, all policies hear of it, and each goes back to its own checkpoint:
what it would have learned from the host's new beginning is not its own.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lora.types import Adapter
from rl.learner.policy import PolicySpec
from rl.learner.policy_host import LearnerHost, PolicyUpdate
from rl.types import Learner, LearnerDied, TrainBatch

Metrics = dict[str, float]


@dataclass(frozen=True, slots=True)
class _Pending:
    part: PolicyUpdate
    metrics: "asyncio.Future[Metrics]"


class JointUpdates:
    """The policies on one host. `generation` counts the host's beginnings."""

    def __init__(self, host: LearnerHost) -> None:
        self._host = host
        self.generation = 0
        self._ready = True
        self._specs: dict[str, PolicySpec] = {}
        self._pending: dict[str, _Pending] = {}
        self._changing = asyncio.Lock()
        self._running: set[asyncio.Task[None]] = set()

    async def register(self, spec: PolicySpec) -> "PolicyLearner":
        """Begin a policy, for which every round waits from now on.

        Raises:
            ValueError: the model lacks a layer that it adapts.
            LearnerDied: the host is gone, and could not be brought back.
        """
        async with self._changing:
            assert spec.run not in self._specs, spec.run
            try:
                await self._host.call("add", spec)
                self._specs[spec.run] = spec
            except LearnerDied:
                await self._restart_host([*self._specs.values(), spec])
                self._specs[spec.run] = spec
        return PolicyLearner(self, spec.run)

    def unregister(self, run: str) -> None:
        """No round waits for that policy any more."""
        self._specs.pop(run, None)
        self._pending.pop(run, None)
        self._run_if_complete()

    async def free(self, run: str) -> None:
        """Give the place of a policy that left to another."""
        await self._host.call("remove", run)

    async def call(self, generation: int, method: str, *arguments: Any) -> Any:
        """Raises LearnerDied if the host is gone, or was since that generation."""
        self._check(generation)
        return await self._host.call(method, *arguments)

    async def update(self, generation: int, part: PolicyUpdate) -> Metrics:
        """This policy's part of the next round; its metrics when the round is done. Raises LearnerDied as above."""
        self._check(generation)
        brought = _Pending(part, asyncio.get_running_loop().create_future())
        self._pending[part.run] = brought
        self._run_if_complete()
        try:
            return await brought.metrics
        finally:
            if self._pending.get(part.run) is brought:  # cancelled while it waited
                del self._pending[part.run]

    async def restart(self, generation: int) -> int:
        """Bring the host back, unless another policy has done so since that generation; the generation now."""
        async with self._changing:
            if self.generation == generation or not self._ready:
                await self._restart_host(list(self._specs.values()))
            return self.generation

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await self._host.close()

    async def _restart_host(self, specs: Sequence[PolicySpec]) -> None:
        self.generation += 1
        self._ready = False
        waiting, self._pending = list(self._pending.values()), {}
        for brought in waiting:
            if not brought.metrics.done():
                brought.metrics.set_exception(LearnerDied("the learner died while a round was gathered"))
        await self._host.restart()
        for spec in specs:
            await self._host.call("add", spec)
        self._ready = True

    def _check(self, generation: int) -> None:
        if generation != self.generation or not self._ready:
            raise LearnerDied("the learner died, and has begun anew")

    def _run_if_complete(self) -> None:
        """Run the round if it is complete."""
        here = {run: one for run, one in self._pending.items() if not one.metrics.done()}  # or it was just cancelled
        if here and here.keys() == self._specs.keys():
            brought, self._pending = [here[run] for run in self._specs], {}
            task = asyncio.ensure_future(self._run(brought))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, brought: Sequence[_Pending]) -> None:
        try:
            all_metrics = await self._host.call("update", [one.part for one in brought])
        except Exception as error:
            for one in brought:
                if not one.metrics.done():
                    one.metrics.set_exception(error)
            return
        for one, metrics in zip(brought, all_metrics, strict=True):
            if not one.metrics.done():
                one.metrics.set_result(metrics)


class PolicyLearner(Learner):
    """One policy among those of a host."""

    def __init__(self, rounds: JointUpdates, run: str) -> None:
        self._rounds = rounds
        self._run = run
        self._generation = rounds.generation

    async def publish(self) -> Adapter:
        return await self._call("publish")

    async def update(self, batch: TrainBatch, *, lr_scale: float = 1.0) -> dict[str, float]:
        return await self._rounds.update(self._generation, PolicyUpdate(self._run, batch, lr_scale))

    async def score(
        self, sequences: Sequence[Sequence[int]], *, under: Adapter | Literal["policy", "base"] = "policy"
    ) -> list[list[float]]:
        return await self._call("score", [list(sequence) for sequence in sequences], under)

    async def state(self) -> bytes:
        return await self._call("state")

    async def load_state(self, state: bytes) -> None:
        await self._call("load_state", state)

    async def restart(self) -> None:
        self._generation = await self._rounds.restart(self._generation)

    async def facts(self) -> Mapping[str, int]:
        return await self._call("facts")

    async def close(self) -> None:
        self._rounds.unregister(self._run)

    async def _call(self, method: str, *arguments: Any) -> Any:
        return await self._rounds.call(self._generation, method, self._run, *arguments)
