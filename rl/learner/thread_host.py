"""A learner in this process that leaves its caller's event loop free."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

import torch

from lora.types import Adapter
from rl.learner.passes.policy_loss import ForwardBackward
from rl.learner.policies.policy import AdamConfig, PolicySpec
from rl.learner.policy_host import LearnerHost, LearnerSpec, Metrics, PolicyHost, PolicyUpdate
from rl.types import LearnerDied, Under

T = TypeVar("T")


class ThreadHost(LearnerHost):
    """A `PolicyHost` whose work runs on one thread of its own, a call after another in the order that they were made.

    A caller that is cancelled leaves a call that has begun to its end; one that has not begun is not made.
    """

    def __init__(self, spec: LearnerSpec) -> None:
        """Load the model. Raises ValueError as `PolicyHost` does."""
        self._spec = spec
        # The caller's number of cores, so that the thread computes the bits that the caller would.
        self._executor = ThreadPoolExecutor(1, "learner", torch.set_num_threads, (torch.get_num_threads(),))
        self._closed = False
        try:
            self._host = self._executor.submit(PolicyHost, spec).result()
        except BaseException:
            self._executor.shutdown(wait=False)
            raise

    @classmethod
    async def start(cls, spec: LearnerSpec) -> Self:
        """Return a host once it has loaded the model, and leave the event loop free until then.

        Raises:
            ValueError: the model was refused, e.g. because there is no such model.
        """
        return await asyncio.to_thread(cls, spec)

    async def add(self, spec: PolicySpec) -> None:
        await self._call(lambda host: host.add(spec))

    async def remove(self, run: str) -> None:
        await self._call(lambda host: host.remove(run))

    async def update(self, updates: Sequence[PolicyUpdate]) -> list[Metrics]:
        return await self._call(lambda host: host.update(updates))

    async def forward_backward(self, updates: Sequence[PolicyUpdate]) -> list[ForwardBackward]:
        return await self._call(lambda host: host.forward_backward(updates))

    async def forward(self, updates: Sequence[PolicyUpdate]) -> list[ForwardBackward]:
        return await self._call(lambda host: host.forward(updates))

    async def hold_gradients(self, run: str) -> None:
        await self._call(lambda host: host.hold_gradients(run))

    async def restore_gradients(self, run: str) -> None:
        await self._call(lambda host: host.restore_gradients(run))

    async def gradients_pending(self, run: str) -> bool:
        return await self._call(lambda host: host.gradients_pending(run))

    async def optim_step(self, run: str, adam: AdamConfig) -> Metrics:
        return await self._call(lambda host: host.optim_step(run, adam))

    async def publish(self, run: str) -> Adapter:
        return await self._call(lambda host: host.publish(run))

    async def score(self, run: str, sequences: Sequence[Sequence[int]], under: Under) -> list[list[float]]:
        return await self._call(lambda host: host.score(run, sequences, under))

    async def state(self, run: str) -> bytes:
        return await self._call(lambda host: host.state(run))

    async def load_state(self, run: str, state: bytes) -> None:
        await self._call(lambda host: host.load_state(run, state))

    async def facts(self, run: str) -> Mapping[str, int]:
        return await self._call(lambda host: host.facts(run))

    async def restart(self) -> None:
        def begin(_: PolicyHost) -> None:
            self._host = PolicyHost(self._spec)

        await self._call(begin)

    async def close(self) -> None:
        """End the thread when the call that it is at has ended. Those that wait raise `LearnerDied`."""
        self._closed = True
        self._executor.shutdown(wait=False)

    async def _call(self, work: Callable[[PolicyHost], T]) -> T:
        def compute() -> T:
            self._check()
            return work(self._host)

        self._check()
        return await asyncio.get_running_loop().run_in_executor(self._executor, compute)

    def _check(self) -> None:
        if self._closed:
            raise LearnerDied("the learner was closed")
