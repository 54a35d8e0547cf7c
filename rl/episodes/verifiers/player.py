"""Plays episodes of verifiers: the environment asks for turns, which make one chain of tokens in each episode."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from lora.types import Adapter
from rl.algorithm.sampling.groups import Question, Sampler
from rl.episodes.turns.player import Ended, stream_ended
from rl.episodes.verifiers.conversation import Conversation, Speaker
from rl.episodes.verifiers.host import Respond, VerifiersHost
from rl.episodes.verifiers.openai_chat import Table
from rl.types import Episode
from rollout.config import SamplingConfig

MOST_SHOWN = 4000
"""Characters of a failure."""


@dataclass(frozen=True, slots=True)
class VerifiersPlayer(Sampler):
    """Answers tasks by episodes of verifiers, each turn of which is sampled as it is asked for."""

    speaker: Speaker
    host: VerifiersHost

    def stream(
        self, questions: Sequence[Question], adapter: Adapter, sampling: SamplingConfig
    ) -> AsyncGenerator[Ended]:
        """Yield episodes as they end, each with its question's index and its place in the group."""
        return stream_ended(lambda on_end: self._play_all(questions, adapter, sampling, on_end))

    async def _play_all(
        self, questions: Sequence[Question], adapter: Adapter, sampling: SamplingConfig,
        on_end: Callable[[Ended], object],
    ) -> None:  # fmt: skip
        async def play(index: int, place: int) -> None:
            episode, failure = await self.play(questions[index], place, adapter, sampling)
            if failure:
                self.host.report(episode.ending, failure)
            on_end(((index, place), episode))

        try:
            async with asyncio.TaskGroup() as episodes:
                for index in range(len(questions)):
                    for place in range(sampling.group_size):
                        episodes.create_task(play(index, place))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def play(
        self, question: Question, place: int, adapter: Adapter, sampling: SamplingConfig
    ) -> tuple[Episode, str]:
        """Return an episode, and why it failed if it did.

        Raises:
            Exception: the engine's, or the environment cannot be loaded.
        """
        attempts: list[Conversation] = []

        def begin() -> Respond:
            attempts.append(Conversation(self.speaker, question, place, adapter, sampling))
            return attempts[-1].respond

        task: Table = dict(question.problem.metadata["task"])
        played = await self.host.play(task, begin)
        if not attempts:
            begin()
        if (fault := attempts[-1].fault) is not None:
            raise fault
        episode, failure = attempts[-1].ended(played)
        return episode, failure[:MOST_SHOWN]
