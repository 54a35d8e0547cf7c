"""Policies that learn together: each has a `Learner` of its own, and their updates are gathered into one.

A round runs when every policy that is still training has brought its batch. One that ends, however it ends, leaves, so
that nobody waits for it for ever. If the host dies, all policies hear of it, and each goes back to its own checkpoint:
what it would have learned from the host's new beginning is not its own.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from lora.types import Adapter
from rl.learner.policies.policy import PolicySpec
from rl.learner.policy_host import LearnerHost, Metrics, PolicyUpdate
from rl.types import Learner, LearnerDied, TrainBatch, Under


@dataclass(frozen=True, slots=True)
class _Pending:
    update: PolicyUpdate
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
                await self._host.add(spec)
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
        await self._host.remove(run)

    def host(self, generation: int) -> LearnerHost:
        """Return the host that a policy of that generation may call. Raises LearnerDied if it was gone since."""
        self._check(generation)
        return self._host

    async def update(self, generation: int, update: PolicyUpdate) -> Metrics:
        """Add a policy's part to the next round; return its metrics when the round is done.

        Raises:
            LearnerDied: the host is gone, or was since that generation.
        """
        self._check(generation)
        pending = _Pending(update, asyncio.get_running_loop().create_future())
        self._pending[update.run] = pending
        self._run_if_complete()
        try:
            return await pending.metrics
        finally:
            if self._pending.get(update.run) is pending:  # cancelled while it waited
                del self._pending[update.run]

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
        for pending in waiting:
            if not pending.metrics.done():
                pending.metrics.set_exception(LearnerDied("the learner died while a round was gathered"))
        await self._host.restart()
        for spec in specs:
            await self._host.add(spec)
        self._ready = True

    def _check(self, generation: int) -> None:
        if generation != self.generation or not self._ready:
            raise LearnerDied("the learner died, and has begun anew")

    def _run_if_complete(self) -> None:
        """Run the round if every policy has brought its part."""
        waiting = {run: part for run, part in self._pending.items() if not part.metrics.done()}  # or just cancelled
        if waiting and waiting.keys() == self._specs.keys():
            complete, self._pending = [waiting[run] for run in self._specs], {}
            task = asyncio.ensure_future(self._run(complete))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, complete: Sequence[_Pending]) -> None:
        try:
            all_metrics = await self._host.update([pending.update for pending in complete])
        except Exception as error:
            for pending in complete:
                if not pending.metrics.done():
                    pending.metrics.set_exception(error)
            return
        for pending, metrics in zip(complete, all_metrics, strict=True):
            if not pending.metrics.done():
                pending.metrics.set_result(metrics)


class PolicyLearner(Learner):
    """One policy among those of a host, as what trains it sees it."""

    def __init__(self, joint_updates: JointUpdates, run: str) -> None:
        self._joint_updates = joint_updates
        self._run = run
        self._generation = joint_updates.generation

    @property
    def _host(self) -> LearnerHost:
        return self._joint_updates.host(self._generation)

    async def publish(self) -> Adapter:
        return await self._host.publish(self._run)

    async def update(self, batch: TrainBatch, *, lr_scale: float = 1.0) -> Metrics:
        return await self._joint_updates.update(self._generation, PolicyUpdate(self._run, batch, lr_scale))

    async def logprobs(self, batch: TrainBatch) -> list[Tensor]:
        (output,) = await self._host.forward([PolicyUpdate(self._run, batch)])
        return output.logprobs

    async def score(self, sequences: Sequence[Sequence[int]], *, under: Under = "policy") -> list[list[float]]:
        return await self._host.score(self._run, [list(sequence) for sequence in sequences], under)

    async def state(self) -> bytes:
        return await self._host.state(self._run)

    async def load_state(self, state: bytes) -> None:
        await self._host.load_state(self._run, state)

    async def restart(self) -> None:
        self._generation = await self._joint_updates.restart(self._generation)

    async def facts(self) -> Mapping[str, int]:
        return await self._host.facts(self._run)

    async def close(self) -> None:
        self._joint_updates.unregister(self._run)
