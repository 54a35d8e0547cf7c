"""Problems of several sources, each of which may have episodes of its own, as one: what is theirs goes to them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from lora.types import Adapter
from rewards.types import Problem
from rl.algorithm.sampling.groups import Question, Sampler, stream_answers
from rl.data.prompts import Encoder
from rl.episodes.turns.player import Ended, stream_ended
from rollout.config import SamplingConfig
from rollout.types import Engine


class SourceEncoder(Encoder):
    """Makes each problem's prompt as its source has them, with the source's tools."""

    def __init__(self, by_source: Mapping[str, Encoder]) -> None:
        """Encode by the sources' keys."""
        self._by_source = by_source

    def encode(self, problems: Sequence[Problem]) -> list[list[int]]:
        """Return the prompts of several problems. Raises as the sources' own encoders do."""
        places: dict[str, list[int]] = {}
        for place, problem in enumerate(problems):
            places.setdefault(_key(problem, self._by_source), []).append(place)
        prompts: dict[int, list[int]] = {}
        for source, of_source in places.items():
            encoded = self._by_source[source].encode([problems[place] for place in of_source])
            prompts |= zip(of_source, encoded, strict=True)
        return [prompts[place] for place in range(len(problems))]


@dataclass(frozen=True, slots=True)
class SourceSampler(Sampler):
    """Answers each question as its source has it: by episodes, or by completions of one turn."""

    engine: Engine
    by_source: Mapping[str, Sampler | None]

    def stream(
        self, questions: Sequence[Question], adapter: Adapter, sampling: SamplingConfig
    ) -> AsyncGenerator[Ended]:
        """Yield completions of all sources as they end, each with its question's index and its place in the group."""
        return stream_ended(lambda on_end: self._answer_all(questions, adapter, sampling, on_end))

    async def _answer_all(
        self, questions: Sequence[Question], adapter: Adapter, sampling: SamplingConfig,
        on_end: Callable[[Ended], object],
    ) -> None:  # fmt: skip
        places: dict[str, list[int]] = {}
        for index, question in enumerate(questions):
            places.setdefault(_key(question.problem, self.by_source), []).append(index)

        async def answer(source: str, of_source: Sequence[int]) -> None:
            asked = [questions[index] for index in of_source]
            stream = stream_answers(asked, adapter, sampling, self.engine, self.by_source[source])
            async with aclosing(stream) as ended:
                async for (index, place), completion in ended:
                    on_end(((of_source[index], place), completion))

        try:
            async with asyncio.TaskGroup() as sources:
                for each in places.items():
                    sources.create_task(answer(*each))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None


def _key(problem: Problem, by_source: Mapping[str, object]) -> str:
    """Return the source's key; empty of a problem of an evaluation's own set."""
    return problem.source if problem.source in by_source else ""
