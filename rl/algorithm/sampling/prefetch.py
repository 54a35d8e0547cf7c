"""The graded groups of coming steps, sampled while the learner is busy.

Which policy samples a step is a function of the step alone: with `ahead` = k, the one before the last k updates. So the
lag is never more than k, and nothing depends on which of two phases happened to be faster.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import ceil
from types import TracebackType
from typing import Self

from lora.types import Adapter
from rl.config import MAX_OFF_POLICY_STEPS, RunConfig
from rl.types import Group


def steps_ahead(config: RunConfig, *, disjoint_devices: bool) -> int:
    """Return by how many steps rollouts may be older than the learner: as configured, else as few as make sense.

    Without `steps_in_flight` that is one if each has its own device; with it, what lets a straggler be overtaken.
    Policies in flight are one more: those that sample coming steps, and the newest, which is evaluated meanwhile.
    """
    if config.max_off_policy_steps is not None:
        return config.max_off_policy_steps
    if config.steps_in_flight is not None:
        return min(MAX_OFF_POLICY_STEPS, ceil(config.steps_in_flight))
    return int(disjoint_devices)


@dataclass(frozen=True, slots=True)
class Rollout:
    """One step's graded groups, and the seconds that its phases took."""

    groups: Sequence[Group]
    seconds: dict[str, float]
    sampling_s: float | None = None
    """Time in which so many groups are sampled, where that goes on during other phases."""
    replayed: Sequence[Group] | None = None
    """The same groups with what is replayed in its place, for the learner alone; None if nothing may be."""


class RolloutPrefetcher:
    """Starts rollouts of coming steps, in order and at most `ahead` steps before they are asked for."""

    def __init__(self, begin: Callable[[int, Adapter], Awaitable[Rollout]], ahead: int, last: int) -> None:
        """`begin` samples and grades a step; steps end before `last`."""
        self._begin = begin
        self._ahead = ahead
        self._last = last
        self._running: dict[int, asyncio.Future[Rollout]] = {}

    @property
    def unlearned(self) -> Sequence[int]:
        """Nothing to remember: which problems a step learns from follows from its number."""
        return ()

    async def get(self, step: int, adapter: Adapter) -> Rollout:
        """Return step `step`'s rollout.

        Steps up to `step + ahead` that have not started yet are started now, sampled from `adapter`.

        Raises:
            Exception: whatever ended the step's rollout.
        """
        for coming in range(step, min(step + self._ahead, self._last - 1) + 1):
            if coming not in self._running:
                self._running[coming] = asyncio.ensure_future(self._begin(coming, adapter))
        try:
            return await self._running[step]
        finally:
            self._running.pop(step, None)

    async def cancel_all(self) -> None:
        """Cancel and forget rollouts under way, whose policy is no longer the run's."""
        running = list(self._running.values())
        self._running.clear()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cancel_all()
