"""Compares ways to give steps their groups: those drawn for each, or the first to be finished.

    python bench/in_flight.py

The run's own code samples, grades and gives each step its groups; the engine, the grader and the learner only wait. A
completion takes as long as it has tokens, of which a slot of the engine writes one after the other, and lengths have a
long tail, the same in every row: completion by completion, they follow from the group's number.
"""

import argparse
import asyncio
import random
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, cast

from lora.types import Adapter
from rewards.types import Grader, Outcome, Problem, Reward
from rl.algorithm.sampling.groups import Question, sample_groups, stream_groups
from rl.algorithm.sampling.in_flight import Capacity, GroupsInFlight
from rl.algorithm.sampling.prefetch import Rollout, RolloutPrefetcher
from rollout.config import SamplingConfig
from rollout.types import Completion, Engine, Place


@dataclass(frozen=True, slots=True)
class Work:
    """The sizes of a run, and how fast its devices are."""

    steps: int
    problems: int
    group_size: int
    slots: int
    """Completions that the engine writes at a time."""
    median: float
    """Tokens."""
    sigma: float
    """Standard deviation of the lengths' logarithm."""
    longest: int
    """Tokens at which a completion is cut off."""
    token_s: float
    update_s: float

    def length(self, seed: int, place: int) -> int:
        """Return the tokens of a completion."""
        return min(self.longest, 1 + int(random.Random(f"{seed}/{place}").lognormvariate(0, self.sigma) * self.median))


class WaitingEngine(Engine):
    """Takes the time of sampling, and does nothing meanwhile."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._slots = asyncio.Semaphore(work.slots)
        self.busy_s = 0.0
        """Seconds that all slots were busy, added up."""

    async def stream_completions(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
    ) -> AsyncGenerator[tuple[Place, Completion]]:
        places = [(index, place) for index in range(len(prompts)) for place in range(sampling.group_size)]
        running = [asyncio.ensure_future(self._write(place, seeds[place[0]], adapter.version)) for place in places]
        try:
            for ended in asyncio.as_completed(running):
                yield await ended
        finally:
            for task in running:
                task.cancel()

    async def _write(self, place: Place, seed: int, version: int) -> tuple[Place, Completion]:
        seconds = self._work.length(seed, place[1]) * self._work.token_s
        async with self._slots:
            await asyncio.sleep(seconds)
        self.busy_s += seconds
        return place, Completion((), (), "", "stop", version)


class AnyGrader(Grader):
    """Grades at once."""

    async def grade(self, problems: Sequence[Problem], texts_P_G: Sequence[Sequence[str]], _: Any = None) -> Any:
        return [[Reward(0.0, Outcome.WRONG)] * len(texts) for texts in texts_P_G]


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a run of all steps."""

    steps_per_s: float
    busy: float
    """Share of the slots that wrote something."""
    mean_lag: float
    """Updates between a completion's policy and the learner's, on average."""
    max_lag: int


async def measure(work: Work, *, ahead: int | None = None, capacity: Capacity | None = None) -> Figures:
    """Run all steps, with so many ahead in the order of draws, or with the groups finished first."""
    engine, grader = WaitingEngine(work), AnyGrader()
    sampling = SamplingConfig(group_size=work.group_size)
    problem = Problem("p", "", "")

    def ask(numbers: Sequence[int]) -> list[Question]:
        return [Question(number, problem, [], number) for number in numbers]

    async def step_in_order(step: int, adapter: Adapter) -> Rollout:
        numbers = range(step * work.problems, (step + 1) * work.problems)
        return Rollout(*await sample_groups(ask(numbers), adapter, sampling, engine, grader))

    async def begin(numbers: Sequence[int], adapter: Adapter, on_group: Any) -> None:
        await stream_groups(ask(numbers), adapter, sampling, engine, grader, on_group)

    rollouts = (
        RolloutPrefetcher(step_in_order, cast("int", ahead), work.steps)
        if capacity is None
        else GroupsInFlight(begin, capacity, 0, work.steps)
    )
    lags: list[int] = []
    began = time.perf_counter()
    async with rollouts as coming:
        for step in range(work.steps):
            rollout = await coming.get(step, Adapter("run", step, b""))
            lags += [step - completion.policy_version for group in rollout.groups for completion in group.completions]
            await asyncio.sleep(work.update_s)
    seconds = time.perf_counter() - began
    return Figures(work.steps / seconds, engine.busy_s / (seconds * work.slots), fmean(lags), max(lags))


async def compare(work: Work) -> None:
    """Print a row for each way to give steps their groups, and its speed as a multiple of the first row's."""
    in_flight = partial(Capacity, work.problems)
    rows = {
        "in order, none ahead": partial(measure, work, ahead=0),
        "in order, 1 step ahead": partial(measure, work, ahead=1),
        "in order, 2 steps ahead": partial(measure, work, ahead=2),
        "1.5 steps in flight, at most 2 old": partial(measure, work, capacity=in_flight(work.problems * 3 // 2, 2)),
        "2 steps in flight, at most 2 old": partial(measure, work, capacity=in_flight(work.problems * 2, 2)),
        "2 steps in flight, at most 4 old": partial(measure, work, capacity=in_flight(work.problems * 2, 4)),
        "3 steps in flight, at most 4 old": partial(measure, work, capacity=in_flight(work.problems * 3, 4)),
    }
    print(f"{'':36} steps/s  ratio  slots busy  lag: mean  most")
    first = 0.0
    for name, run in rows.items():
        figures = await run()
        first = first or figures.steps_per_s
        print(
            f"{name:36} {figures.steps_per_s:7.2f} {figures.steps_per_s / first:6.2f} {figures.busy:11.2f}"
            f" {figures.mean_lag:10.2f} {figures.max_lag:5d}"
        )


def main() -> None:
    """Read the sizes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--problems", type=int, default=16)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--slots", type=int, default=128)
    parser.add_argument("--median", type=float, default=600, help="tokens")
    parser.add_argument("--sigma", type=float, default=1.0, help="of the lengths' logarithm; 0 makes all equal")
    parser.add_argument("--longest", type=int, default=8192, help="tokens")
    parser.add_argument("--token-s", type=float, default=1e-4)
    parser.add_argument("--update-s", type=float, default=0.1)
    asyncio.run(compare(Work(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
