"""Steps that learn from the groups finished first: none is lost or learned from twice, none too old, none waited for
that need not be. Time is counted in turns of the event loop, so that nothing depends on a clock.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from helpers.fakes import problem
from helpers.loop import configuration

from lora.types import Adapter
from rl.algorithm.sampling.in_flight import Capacity, GroupsInFlight
from rl.algorithm.sampling.prefetch import Rollout, RolloutPrefetcher, steps_ahead
from rl.cluster.components import with_room
from rl.config import RunConfig
from rl.types import Group
from rollout.types import EngineDied

SHORT = 5
"""Turns of a usual completion."""


def adapter(version: int) -> Adapter:
    return Adapter("run", version, b"")


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@dataclass
class Sampler:
    """Finishes groups after so many turns each."""

    duration: Callable[[int], int]
    begun: list[tuple[int, int]] = field(default_factory=list)
    """Each group's number, and the step whose policy samples it."""

    async def begin(self, numbers: Sequence[int], policy: Adapter, on_group: Callable[[int, Group], object]) -> None:
        self.begun += [(number, policy.version) for number in numbers]
        async with asyncio.TaskGroup() as tasks:
            for number in numbers:
                tasks.create_task(self._finish(number, on_group))

    async def _finish(self, number: int, on_group: Callable[[int, Group], object]) -> None:
        await turns(self.duration(number))
        on_group(number, Group(problem(str(number)), [], [], []))

    async def step(self, step: int, policy: Adapter, per_step: int) -> Rollout:
        """Return the groups of a step in the order of the draw, as without `steps_in_flight`."""
        groups: list[Group] = []
        numbers = range(step * per_step, (step + 1) * per_step)
        await self.begin(numbers, policy, lambda _, group: groups.append(group))
        return Rollout(groups, {})


def numbers_of(rollout: Rollout) -> list[int]:
    return [int(group.problem.id) for group in rollout.groups]


async def steps_of(
    groups: GroupsInFlight, first: int, last: int, update: Callable[[], int] = lambda: 0
) -> list[list[int]]:
    """Return the numbers of the groups that each step learns from."""
    learned: list[list[int]] = []
    for step in range(first, last):
        learned.append(numbers_of(await groups.get(step, adapter(step))))
        await turns(update())
    return learned


async def test_a_sampling_that_somebody_else_cancels_ends_the_step_that_waits_for_it() -> None:
    async def begin(*_: object) -> None:
        raise asyncio.CancelledError

    async with asyncio.timeout(20), GroupsInFlight(begin, Capacity(2, 2, 1), 0, 3) as groups:
        with pytest.raises(RuntimeError, match="was cancelled"):
            await groups.get(0, adapter(0))


@pytest.mark.parametrize("seed", range(60))
async def test_every_group_is_learned_from_once_and_none_is_older_than_allowed(seed: int) -> None:
    """Any capacity, any lengths with a long tail, any duration of an update; stopped and resumed, rolled back."""
    rng = random.Random(seed)
    per_step, max_age, last = rng.randint(1, 5), rng.randint(0, 4), rng.randint(1, 12)
    capacity = Capacity(per_step, rng.randint(per_step, per_step * (max_age + 1)), max_age)
    stopped = rng.randint(0, last)
    sampler = Sampler(lambda _: int(rng.paretovariate(0.7)) % 300)
    learned: list[list[int]] = []
    async with GroupsInFlight(sampler.begin, capacity, 0, last) as groups:
        for step in range(stopped):
            learned += await steps_of(groups, step, step + 1, lambda: rng.randint(0, 9))
            if rng.random() < 0.1:
                await groups.cancel_all()
            assert len(groups.unlearned) <= capacity.in_flight
        unlearned = groups.unlearned
    async with GroupsInFlight(sampler.begin, capacity, stopped, last, unlearned) as groups:
        learned += await steps_of(groups, stopped, last, lambda: rng.randint(0, 9))
        assert groups.unlearned == []
    assert [len(numbers) for numbers in learned] == [per_step] * last
    assert sorted(number for numbers in learned for number in numbers) == list(range(per_step * last))
    sampled_at = dict(sampler.begun)  # by the last policy that began it
    ages = [step - sampled_at[number] for step, numbers in enumerate(learned) for number in numbers]
    assert min(ages) >= 0
    assert max(ages) <= max_age


@pytest.mark.parametrize("length", [2, 10])
async def test_a_straggler_delays_no_step_but_the_last_that_may_learn_from_it(length: int) -> None:
    """One completion is ten times as long as the others. In order its step waits for it, and all behind that."""
    sampler = Sampler(lambda number: SHORT * (length if number == 1 else 1))
    per_step, last = 4, 16
    waits: list[int] = []

    async def waited(get: Callable[[], object]) -> Rollout:
        task = asyncio.ensure_future(get())  # type: ignore[arg-type]
        waits.append(0)
        while not task.done():
            waits[-1] += 1
            await asyncio.sleep(0)
        return task.result()

    async with GroupsInFlight(sampler.begin, Capacity(per_step, 6, 8), 0, last) as groups:
        learned = [numbers_of(await waited(lambda at=step: groups.get(at, adapter(at)))) for step in range(last)]
    assert max(waits) <= SHORT + 4, "no step waits for more than a usual completion, and a few turns to hear of it"
    assert next(step for step, numbers in enumerate(learned) if 1 in numbers) <= 8
    waits.clear()
    async with RolloutPrefetcher(lambda step, policy: sampler.step(step, policy, per_step), 1, last) as coming:
        for step in range(last):
            await waited(lambda at=step: coming.get(at, adapter(at)))
    assert max(waits) >= SHORT * length, "in order the first step waits for all of it"


async def test_a_group_that_may_wait_no_longer_is_waited_for() -> None:
    sampler = Sampler(lambda number: 500 if number == 0 else number)
    async with GroupsInFlight(sampler.begin, Capacity(2, 3, 2), 0, 9) as groups:
        learned = await steps_of(groups, 0, 5)
    assert learned[:2] == [[1, 2], [3, 4]]
    assert 0 in learned[2]


async def test_those_finished_first_are_first_and_the_rest_of_the_finished_waits() -> None:
    order = [4, 1, 3, 0, 2, 5]
    sampler = Sampler(lambda number: 2 * order.index(number) if number in order else 900)
    async with GroupsInFlight(sampler.begin, Capacity(2, 6, 6), 0, 9) as groups:
        first = numbers_of(await groups.get(0, adapter(0)))
        await turns(40)
        rest = [numbers_of(await groups.get(step, adapter(step))) for step in (1, 2)]
    assert [first, *rest] == [[1, 4], [0, 3], [2, 5]]


async def test_what_is_cancelled_is_begun_again_with_the_policy_that_is_there_then() -> None:
    sampler = Sampler(lambda number: 900 if number == 2 else 1)
    async with GroupsInFlight(sampler.begin, Capacity(2, 4, 3), 0, 9) as groups:
        assert numbers_of(await groups.get(0, adapter(0))) == [0, 1]
        await groups.cancel_all()
        assert groups.unlearned == [2, 3]
        sampler.duration = lambda _: 1
        assert numbers_of(await groups.get(1, adapter(7))) == [2, 3]
        assert len(asyncio.all_tasks()) == 2
    assert Counter(sampler.begun)[2, 7] == Counter(sampler.begun)[3, 7] == 1
    assert [number for number, version in sampler.begun if version == 7] == [2, 3, 4, 5]


async def test_a_failure_reaches_who_waits_and_ends_what_is_under_way() -> None:
    ended: list[Sequence[int]] = []

    async def begin(numbers: Sequence[int], policy: Adapter, on_group: Callable[[int, Group], object]) -> None:
        try:
            for number in numbers[:-1]:
                on_group(number, Group(problem(str(number)), [], [], []))
            if policy.version:
                raise EngineDied("gone")
            await asyncio.Event().wait()
        finally:
            ended.append(numbers)

    async def learn_from_all() -> None:
        async with GroupsInFlight(begin, Capacity(2, 3, 2), 0, 9) as groups:
            await steps_of(groups, 0, 9)

    with pytest.raises(EngineDied, match="gone"):
        await learn_from_all()
    assert sorted(ended) == [[0, 1, 2], [3, 4]]
    assert len(asyncio.all_tasks()) == 1


async def test_a_sampler_that_forgets_a_group_is_found_out() -> None:
    async def begin(*_: object) -> None:
        """Forgets all."""

    sampler = Sampler(lambda _: 1)
    async with GroupsInFlight(begin, Capacity(2, 3, 2), 0, 9) as groups:
        with pytest.raises(AssertionError):
            await groups.get(0, adapter(0))
        await groups.cancel_all()
        groups._begin = sampler.begin
        assert numbers_of(await groups.get(0, adapter(0))) == [0, 1], "what is begun again has not failed yet"


async def test_settings_of_another_batch_after_a_resume_begin_no_number_that_is_in_flight() -> None:
    """Problems a step may change when a run goes on: numbers are then counted from above those in flight."""
    sampler = Sampler(lambda _: 1)
    async with GroupsInFlight(sampler.begin, Capacity(2, 4, 2), 10, 14, [151, 155]) as groups:
        learned = await steps_of(groups, 10, 14)
    assert sorted(number for numbers in learned for number in numbers) == [151, 155, *range(156, 162)]


@pytest.mark.parametrize(
    ("steps", "oldest", "expected"),
    [(1.0, None, 1), (1.5, None, 2), (2.0, None, 2), (9.0, None, 8), (1.5, 1, 1), (2.0, 5, 5)],
)
def test_what_is_not_said_lets_a_straggler_be_overtaken(steps: float, oldest: int | None, expected: int) -> None:
    config = settings(steps, oldest)
    assert steps_ahead(config, disjoint_devices=False) == steps_ahead(config, disjoint_devices=True) == expected
    assert Capacity.of(config) == Capacity(16, round(16 * steps), expected)
    policies = with_room([config, settings(1.0, 0)], 3, disjoint_devices=False).rollout.adapters_in_flight
    assert policies == 3 * (1 + expected), "engines have room for every version of all three policies of a sweep"


def settings(steps: float, oldest: int | None) -> RunConfig:
    said = [] if oldest is None else [f"max_off_policy_steps={oldest}"]
    return configuration(f"steps_in_flight={steps}", "problems_per_step=16", *said)


@pytest.mark.parametrize(("steps", "oldest"), [(1.01, 0), (2.5, 1), (9.0, 7)])
def test_more_in_flight_than_the_oldest_allowed_can_be_is_refused(steps: float, oldest: int) -> None:
    with pytest.raises(ValueError, match=f"steps_in_flight = .* more than max_off_policy_steps = {oldest} steps old"):
        settings(steps, oldest)
    assert settings(oldest + 1, oldest)
