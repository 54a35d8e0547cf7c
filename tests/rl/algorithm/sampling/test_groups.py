"""Graded groups: each completion is graded when it ends, and every one once, in its place."""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence

import pytest
from helpers.fakes import RIGHT, SameTextGrader, ScriptedEngine, problem

from lora.types import Adapter
from rewards.types import Problem, Reward
from rl.algorithm.sampling.groups import Question, sample_groups
from rl.types import Group
from rollout.config import SamplingConfig
from rollout.types import Completion, Engine, EngineDied, Place

ADAPTER = Adapter("run", 3, b"")


def questions(count: int) -> list[Question]:
    return [Question(10 + i, problem(str(i), answer=str(i)), [i], 100 + i) for i in range(count)]


def completion(text: str) -> Completion:
    return Completion((1,), (-1.0,), text, "stop", ADAPTER.version)


class Ending(ScriptedEngine):
    """Ends completions in this order; None waits for `go_on`."""

    def __init__(self, order: Sequence[tuple[Place, str] | None]) -> None:
        super().__init__([])
        self._order = order
        self.go_on = asyncio.Event()
        self.ended: list[str] = []

    async def stream_completions(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
    ) -> AsyncGenerator[tuple[Place, Completion]]:
        for each in self._order:
            await asyncio.sleep(0)
            if each is None:
                await self.go_on.wait()
            else:
                self.ended.append(each[1])
                yield each[0], completion(each[1])


class Watching(SameTextGrader):
    """Notes which completions had ended when it was asked to grade, and lets the engine go on after `enough` grades."""

    def __init__(self, engine: Ending, enough: int, *, takes_groups: bool = False) -> None:
        self.takes_groups = takes_groups
        self.asked: list[tuple[list[str], list[str]]] = []
        self._engine = engine
        self._enough = enough

    async def grade_part(self, problem: Problem, texts: Sequence[str], finish_reasons: Sequence[str]) -> list[Reward]:
        self.asked.append((list(texts), list(self._engine.ended)))
        if len(self.asked) == self._enough:
            self._engine.go_on.set()
        return await super().grade_part(problem, texts, finish_reasons)


async def groups_of(engine: Engine, grader: SameTextGrader, count: int, size: int) -> list[Group]:
    async with asyncio.timeout(60):  # an engine that waits for a grade which does not come
        groups, seconds = await sample_groups(
            questions(count), ADAPTER, SamplingConfig(group_size=size, max_tokens=4), engine, grader
        )
    assert seconds.keys() == {"sample", "grade"}
    return groups


async def test_a_fast_completion_is_graded_before_the_slow_one_of_its_group_ends() -> None:
    engine = Ending([((0, 1), "fast"), None, ((0, 0), "slow")])
    grader = Watching(engine, 1)
    (group,) = await groups_of(engine, grader, 1, 2)
    assert grader.asked == [(["fast"], ["fast"]), (["slow"], ["fast", "slow"])]
    assert [each.text for each in group.completions] == ["slow", "fast"]


async def test_a_reward_of_whole_groups_gets_each_whole_when_its_last_completion_ends() -> None:
    engine = Ending([((0, 1), "b"), ((1, 0), "c"), ((0, 0), "a"), None, ((1, 1), "d")])
    grader = Watching(engine, 1, takes_groups=True)
    await groups_of(engine, grader, 2, 2)
    assert grader.asked == [(["a", "b"], ["b", "c", "a"]), (["c", "d"], ["b", "c", "a", "d"])]


@pytest.mark.parametrize("seed", range(5))
async def test_however_completions_and_grades_end_each_has_its_own_reward_in_its_place(seed: int) -> None:
    rng = random.Random(seed)
    places = [(index, place) for index in range(5) for place in range(4)]
    order = [((index, place), str(rng.choice((index, 99)))) for index, place in rng.sample(places, len(places))]

    class Dawdling(SameTextGrader):
        async def grade_part(self, *arguments: object) -> list[Reward]:
            for _ in range(rng.randrange(6)):
                await asyncio.sleep(0)
            return await super().grade_part(*arguments)  # type: ignore[arg-type]

    texts = dict(order)
    groups = await groups_of(Ending(order), Dawdling(), 5, 4)
    for index, group in enumerate(groups):
        assert (group.problem.id, group.prompt) == (str(index), [index])
        assert [each.text for each in group.completions] == [texts[index, place] for place in range(4)]
        assert [reward is RIGHT for reward in group.rewards] == [each.text == str(index) for each in group.completions]


async def test_a_death_ends_the_grading_that_is_under_way() -> None:
    ended: list[str] = []

    class Stuck(SameTextGrader):
        async def grade_part(self, problem: Problem, texts: Sequence[str], _: object) -> list[Reward]:
            try:
                await asyncio.Event().wait()
            finally:
                ended.extend(texts)
            raise AssertionError

    class Dying(Ending):
        async def stream_completions(self, *_: object, **__: object) -> AsyncGenerator[tuple[Place, Completion]]:
            yield (0, 0), completion("a")
            await asyncio.sleep(0)
            raise EngineDied("gone")

    with pytest.raises(EngineDied, match="gone"):
        await groups_of(Dying([]), Stuck(), 1, 2)
    assert ended == ["a"]
    assert len(asyncio.all_tasks()) == 1


async def test_a_grader_that_fails_ends_the_sampling() -> None:
    """The last completion never ends; the failure need not wait for it."""

    class Broken(SameTextGrader):
        async def grade_part(self, *_: object) -> list[Reward]:
            raise ValueError("no worker can load it")

    with pytest.raises(ValueError, match="no worker can load it"):
        await groups_of(Ending([((0, 0), "a"), None]), Broken(), 1, 2)
    assert len(asyncio.all_tasks()) == 1


async def test_an_engine_that_answers_all_at_once_need_not_stream() -> None:
    groups = await groups_of(ScriptedEngine(["0", "1"]), SameTextGrader(), 2, 2)
    assert [[each.text for each in group.completions] for group in groups] == [["0", "1"], ["0", "1"]]
    assert [[reward.value for reward in group.rewards] for group in groups] == [[1, 0], [0, 1]]
