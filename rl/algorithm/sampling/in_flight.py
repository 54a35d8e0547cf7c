"""Groups that are sampled at once, of which a step takes the first to be finished.

So the longest completion delays no other: it goes into a later step. How much later is bounded: a group that was begun
with the policy of step s is learned from at step s + `max_age` at the latest, and waited for there. Every group is
learned from once. Which step it goes into depends on how long it took, so two runs differ.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from lora.types import Adapter
from rl.algorithm.sampling.prefetch import Rollout, steps_ahead
from rl.config import RunConfig
from rl.types import Group

Begin = Callable[[Sequence[int], Adapter, Callable[[int, Group], object]], Awaitable[object]]
"""Samples and grades the groups of these numbers, and tells of each when it is finished."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """Numbers of groups that are under way, and the age that one may reach."""

    per_step: int
    """Groups that a step learns from."""
    in_flight: int
    """Groups that are begun and not learned from yet, when a step waits for its own."""
    max_age: int
    """Steps that may pass between a group's beginning and the one that learns from it."""

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        assert config.steps_in_flight is not None
        per_step = config.problems_per_step
        return cls(per_step, round(config.steps_in_flight * per_step), steps_ahead(config, disjoint_devices=True))

    def can_wait(self, latest: Counter[int], step: int) -> bool:
        """Return True if these can all be learned from after `step` and in time; `latest` counts them by last step."""
        waiting = 0
        for last_step in sorted(latest):
            waiting += latest[last_step]
            if waiting > (last_step - step) * self.per_step:
                return False
        return True


@dataclass(slots=True)
class _Flight:
    """A group that was begun."""

    latest: int
    """The last step that may learn from it."""
    group: Group | None = None
    """The group, once it is finished."""


class GroupsInFlight:
    """Keeps `capacity.in_flight` groups under way, and gives each step the first of them to be finished."""

    def __init__(self, begin: Begin, capacity: Capacity, first: int, last: int, unlearned: Sequence[int] = ()) -> None:
        """Steps go from `first` to before `last`. `unlearned` groups were begun before `first`, and begin it again."""
        self._begin = begin
        self._capacity = capacity
        self._last = last
        self._again = sorted(unlearned)
        """Numbers of groups to begin before any new one."""
        self._next = max([first * capacity.per_step + len(unlearned), *(number + 1 for number in unlearned)])
        self._flights: dict[int, _Flight] = {}
        self._finished: list[int] = []
        """Numbers in the order in which they were finished."""
        self._calls: set[asyncio.Task[None]] = set()
        self._failure: Exception | None = None
        self._news = asyncio.Event()
        self._took: float | None = None
        """The time at which the step before had its groups."""

    @property
    def unlearned(self) -> Sequence[int]:
        """Numbers of the groups that were begun and that no step has learned from."""
        return sorted([*self._again, *self._flights])

    async def get(self, step: int, adapter: Adapter) -> Rollout:
        """Return the groups that `step` learns from; before that, begin others in the place of those that are gone.

        Raises:
            Exception: whatever ended the sampling or grading of one under way.
        """
        begin = time.perf_counter()
        took = self._took or begin
        self._fill(step, adapter)
        while not self._is_ready(step):
            self._news.clear()
            await self._news.wait()
        groups = [flight.group for number in self._choose(step) if (flight := self._flights.pop(number)).group]
        self._finished = [number for number in self._finished if number in self._flights]
        self._took = time.perf_counter()
        return Rollout(groups, {"sample": self._took - begin}, self._took - took)  # sampling never stops in between

    async def cancel_all(self) -> None:
        """End what is under way, whose policy is no longer the run's; the next step begins all of it again."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        self._again = list(self.unlearned)
        self._flights.clear()
        self._finished.clear()
        self._failure = None

    def _fill(self, step: int, adapter: Adapter) -> None:
        left = (self._last - step) * self._capacity.per_step
        count = min(self._capacity.in_flight, left) - len(self._flights)
        numbers = [self._number() for _ in range(count)]
        self._flights |= {number: _Flight(step + self._capacity.max_age) for number in numbers}
        if numbers:
            call = asyncio.create_task(self._run(numbers, adapter))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    def _number(self) -> int:
        if self._again:
            return self._again.pop(0)
        self._next += 1
        return self._next - 1

    async def _run(self, numbers: Sequence[int], adapter: Adapter) -> None:
        try:
            await self._begin(numbers, adapter, self._finish)
            assert not any(number in self._flights and self._flights[number].group is None for number in numbers)
        except Exception as error:  # it is for who waits for a step
            self._failure = error
        except asyncio.CancelledError:  # by `cancel_all`, which forgets this, or by whatever they are sampled with
            self._failure = RuntimeError("the sampling of coming groups was cancelled")
            raise
        finally:
            self._news.set()

    def _finish(self, number: int, group: Group) -> None:
        self._flights[number].group = group
        self._finished.append(number)
        self._news.set()

    def _is_ready(self, step: int) -> bool:
        """Return True if enough are finished, and those that are not can go into later steps."""
        if self._failure is not None:
            raise self._failure
        enough = len(self._finished) >= self._capacity.per_step
        return enough and self._capacity.can_wait(self._unfinished(), step)

    def _unfinished(self) -> Counter[int]:
        return Counter(flight.latest for flight in self._flights.values() if flight.group is None)

    def _choose(self, step: int) -> list[int]:
        """Return the finished groups of a step: the first ones, but for those that the last can wait for no longer.

        From the one finished last on, each stays if it and all that stay before it can still go into later steps.
        """
        staying, chosen = self._unfinished(), list(self._finished)
        for number in reversed(self._finished):
            latest = Counter([self._flights[number].latest])
            if len(chosen) > self._capacity.per_step and self._capacity.can_wait(staying + latest, step):
                staying += latest
                chosen.remove(number)
        assert len(chosen) == self._capacity.per_step
        return sorted(chosen)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cancel_all()
