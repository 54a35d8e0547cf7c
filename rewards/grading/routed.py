"""A grader for each source of problems, as one."""

import asyncio
from collections.abc import Mapping, Sequence

from rewards.types import Grader, Problem, Reward


class RoutedGrader(Grader):
    """Grades each problem with the grader of its source, by `Problem.source`.

    If one of them looks at whole groups, all get whole groups.
    """

    def __init__(self, by_source: Mapping[str, Grader]) -> None:
        self._by_source = dict(by_source)
        self.takes_groups = any(grader.takes_groups for grader in self._by_source.values())

    async def grade(
        self,
        problems: Sequence[Problem],
        texts_P_G: Sequence[Sequence[str]],
        finish_reasons_P_G: Sequence[Sequence[str]] | None = None,
    ) -> list[list[Reward]]:
        parts = {
            source: [i for i, problem in enumerate(problems) if problem.source == source] for source in self._by_source
        }
        assert sum(map(len, parts.values())) == len(problems), "a problem of a source that has no grader"
        graded = await asyncio.gather(
            *(
                self._by_source[source].grade(
                    [problems[i] for i in places],
                    [texts_P_G[i] for i in places],
                    None if finish_reasons_P_G is None else [finish_reasons_P_G[i] for i in places],
                )
                for source, places in parts.items()
            )
        )
        rewards = {
            i: group
            for places, of in zip(parts.values(), graded, strict=True)
            for i, group in zip(places, of, strict=True)
        }
        return [rewards[i] for i in range(len(problems))]

    async def grade_part(self, problem: Problem, texts: Sequence[str], finish_reasons: Sequence[str]) -> list[Reward]:
        return await self._by_source[problem.source].grade_part(problem, texts, finish_reasons)

    def check(self, rewards_P_G: Sequence[Sequence[Reward]], problems: Sequence[Problem] = ()) -> None:
        """Raises an error if too many completions of a source could not be graded."""
        for source, grader in self._by_source.items():
            pairs = zip(rewards_P_G, problems, strict=True)
            grader.check([rewards for rewards, problem in pairs if problem.source == source])

    async def close(self) -> None:
        """Leave the graders to whoever opened them: runs and sources may share one."""
