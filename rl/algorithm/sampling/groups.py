"""Problems become graded groups: completions are sampled together, and each is graded when it ends.

So the grader works while the longest completions are still written, and has little left to do after the last one.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from typing import Protocol

from lora.types import Adapter
from rewards.types import Grader, Problem, Reward
from rl.algorithm.metrics import Stopwatch
from rl.algorithm.sampling.shared_start import with_shared_start
from rl.types import Episode, Group
from rollout.config import SamplingConfig
from rollout.types import Completion, Engine, Place


@dataclass(frozen=True, slots=True)
class Question:
    """A problem as the engine gets it."""

    number: int
    """Its place among all that are asked."""
    problem: Problem
    prompt: list[int]
    seed: int


class Sampler(Protocol):
    """Answers questions in another way than by one completion of the prompt, such as by episodes of several turns."""

    def stream(
        self, questions: Sequence[Question], adapter: Adapter, sampling: SamplingConfig
    ) -> AsyncGenerator[tuple[Place, Completion]]:
        """Yield `sampling.group_size` completions of each question as each ends, each once, with its place."""
        ...


@dataclass(slots=True)
class GrowingGroup:
    """A problem's completions so far, and the rewards of those that have been graded."""

    question: Question
    size: int
    grader: Grader
    _completions: dict[int, Completion] = field(default_factory=dict[int, Completion])
    _rewards: dict[int, Reward] = field(default_factory=dict[int, Reward])

    async def add(self, place: int, completion: Completion) -> Group | None:
        """Grade a completion that has ended, unless it has its reward; return the group if that was the last of it."""
        self._completions[place] = completion
        if isinstance(completion, Episode) and completion.reward is not None:
            self._rewards[place] = completion.reward
        elif not self.grader.takes_groups:
            await self._grade([place])
        if self.grader.takes_groups and len(self._completions) == self.size:
            await self._grade([place for place in range(self.size) if place not in self._rewards])
        return self._whole() if len(self._rewards) == self.size else None

    async def _grade(self, places: Sequence[int]) -> None:
        if not places:
            return
        graded = [self._completions[place] for place in places]
        texts, reasons = [c.text for c in graded], [c.finish_reason for c in graded]
        rewards = await self.grader.grade_part(self.question.problem, texts, reasons)
        self._rewards |= zip(places, rewards, strict=True)

    def _whole(self) -> Group:
        places = range(self.size)
        completions, rewards = [self._completions[i] for i in places], [self._rewards[i] for i in places]
        prompt, completions = with_shared_start(self.question.prompt, completions)
        return Group(self.question.problem, prompt, completions, rewards)


async def stream_groups(
    questions: Sequence[Question],
    adapter: Adapter,
    sampling: SamplingConfig,
    engine: Engine,
    grader: Grader,
    on_group: Callable[[int, Group], object],
    sampler: Sampler | None = None,
) -> dict[str, float]:
    """Sample and grade; `on_group` gets each group and its question's number when its last completion is graded.

    The engine completes the prompts, unless a `sampler` answers the questions in its way.

    Returns the seconds until the last completion had ended, `sample`, and from then to the last grade, `grade`.
    """
    growing = {index: GrowingGroup(each, sampling.group_size, grader) for index, each in enumerate(questions)}
    watch = Stopwatch()

    async def add(index: int, place: int, completion: Completion) -> None:
        if (group := await growing[index].add(place, completion)) is not None:
            del growing[index]  # it may be learned from long before the last one ends
            on_group(questions[index].number, group)

    try:
        with ExitStack() as after_sampling:
            async with asyncio.TaskGroup() as grading:  # a grader that fails ends the sampling
                with watch.phase("sample"):
                    async with aclosing(stream_answers(questions, adapter, sampling, engine, sampler)) as completions:
                        async for (index, place), completion in completions:
                            grading.create_task(add(index, place, completion))
                after_sampling.enter_context(watch.phase("grade"))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return watch.seconds


def stream_answers(
    questions: Sequence[Question], adapter: Adapter, sampling: SamplingConfig, engine: Engine, sampler: Sampler | None
) -> AsyncGenerator[tuple[Place, Completion]]:
    """Yield `sampling.group_size` completions of each question as each ends, with its place: the sampler's if there is
    one, or the engine's."""
    if sampler is not None:
        return sampler.stream(questions, adapter, sampling)
    prompts, seeds = [question.prompt for question in questions], [question.seed for question in questions]
    return engine.stream_completions(prompts, adapter, sampling, seeds=seeds)


async def sample_groups(
    questions: Sequence[Question],
    adapter: Adapter,
    sampling: SamplingConfig,
    engine: Engine,
    grader: Grader,
    sampler: Sampler | None = None,
) -> tuple[list[Group], dict[str, float]]:
    """Return a graded group for each question, in their order, and the seconds of `stream_groups`."""
    groups: dict[int, Group] = {}
    seconds = await stream_groups(questions, adapter, sampling, engine, grader, groups.__setitem__, sampler)
    return [groups[question.number] for question in questions], seconds
