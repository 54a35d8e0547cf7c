"""Plays episodes: the engine writes a turn, the environment answers it, and so on, with many of them under way at once.

First turns are sampled together, as completions of one turn are, so an episode with one turn is such a completion.
Later turns are sampled as they come up, each behind its own episode's tokens, by the adapter of the first one.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from lora.types import Adapter
from rl.algorithm.sampling.groups import Question, Sampler
from rl.algorithm.sampling.seeds import environment_seed, turn_seed
from rl.config import EpisodesConfig, replaced
from rl.episodes.environments.pool import EnvironmentPool
from rl.episodes.environments.worker import Answer, Call
from rl.episodes.tools.calls import CallReader
from rl.episodes.turns.episode import GrowingEpisode
from rl.episodes.turns.render import Renderer
from rl.types import Ending, Episode
from rollout.config import SamplingConfig
from rollout.types import Completion, Engine, Place

Ended = tuple[Place, Completion]


async def stream_ended(
    play_all: Callable[[Callable[[Ended], object]], Coroutine[Any, Any, None]],
) -> AsyncGenerator[Ended]:
    """Yield what a coroutine reports to have ended, until it has ended itself. Raises what it raises."""
    ended: asyncio.Queue[Ended | None] = asyncio.Queue()
    playing = asyncio.create_task(play_all(ended.put_nowait))
    playing.add_done_callback(lambda _: ended.put_nowait(None))
    try:
        while (episode := await ended.get()) is not None:
            yield episode
        await playing
    finally:
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class EpisodePlayer(Sampler):
    """Answers questions by episodes."""

    config: EpisodesConfig
    engine: Engine
    environments: EnvironmentPool
    renderer: Renderer

    reader: CallReader | None = None
    """Finds calls of tools in turns; None leaves it to the environment, and to Hermes' form."""
    tools: Sequence[Mapping[str, Any]] = ()
    """Their schemas."""

    def stream(
        self, questions: Sequence[Question], adapter: Adapter, sampling: SamplingConfig
    ) -> AsyncGenerator[Ended]:
        """Yield episodes as they end, each with its question's index and its place in the group."""
        return stream_ended(lambda on_end: self._play_all(questions, adapter, sampling, on_end))

    async def _play_all(
        self, questions: Sequence[Question], adapter: Adapter, sampling: SamplingConfig,
        on_end: Callable[[Ended], object],
    ) -> None:  # fmt: skip
        prompts, seeds = [question.prompt for question in questions], [question.seed for question in questions]

        async def play(where: Place, first: Completion) -> None:
            on_end((where, await self.play(questions[where[0]], where[1], first, adapter, sampling)))

        try:
            async with asyncio.TaskGroup() as episodes:
                stream = self.engine.stream_completions(prompts, adapter, sampling, seeds=seeds)
                async with aclosing(stream) as turns:
                    async for where, first in turns:
                        episodes.create_task(play(where, first))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def play(
        self, question: Question, place: int, first: Completion, adapter: Adapter, sampling: SamplingConfig
    ) -> Episode:
        """Return the episode that begins with that turn."""
        episode = GrowingEpisode(self.renderer.first_messages(question.problem))
        seed, asleep, turn = environment_seed(question.seed, place), None, first
        for number in range(1, self.config.max_turns + 1):
            try:
                episode.add_turn(turn, **await self._calls(turn))
            except TimeoutError as error:  # a turn that no parser comes to an end with
                self.environments.report(Answer(failure="timeout", kind="calls", message=str(error)))
                episode.add_turn(turn)
                return episode.ended("timeout")
            answer = await self.environments.answer(Call(question.problem, seed, asleep, tuple(episode.messages)))
            if answer.failure is not None:
                return episode.ended(answer.failure)
            episode.add_observation(answer.observation)
            if answer.observation.done:
                return episode.ended("done")
            asleep = answer.asleep
            if (behind := self._suffix(turn, answer)) is None:
                return episode.ended("crashed")
            room = self.config.max_tokens - len(episode.token_ids) - len(behind)
            if (over := _budget(number == self.config.max_turns, room)) is not None:
                return episode.ended(over)
            episode.add_tokens(behind)
            shorter = replaced(sampling, group_size=1, max_tokens=min(sampling.max_tokens, room))
            prompt, seeds = [*question.prompt, *episode.token_ids], [turn_seed(question.seed, place, number)]
            ((turn,),) = await self.engine.sample([prompt], adapter, shorter, seeds=seeds)
        raise AssertionError("the last turn ends an episode")

    async def _calls(self, turn: Completion) -> dict[str, Any]:
        """Return the calls in a turn, as a part of its message. Raises TimeoutError if they cannot be found in time."""
        if self.reader is None:
            return {}
        read = await self.reader.read(self.renderer.raw_text(turn), self.tools)
        return {"tool_calls": [{"name": name, "arguments": arguments} for name, arguments in read.calls]}

    def _suffix(self, turn: Completion, answer: Answer) -> list[int] | None:
        """Return the tokens behind a turn; None if the chat template refuses the environment's messages."""
        try:
            return self.renderer.suffix(turn.token_ids, answer.observation.listed())
        except ValueError as error:
            self.environments.report(Answer(failure="crashed", kind="messages refused", message=str(error)))
            return None


def _budget(is_last_turn: bool, room: int) -> Ending | None:
    """Return the budget that is used up, if one is."""
    if is_last_turn:
        return "turns"
    return "tokens" if room < 1 else None
