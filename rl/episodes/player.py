"""Plays episodes: the engine writes a turn, the environment answers it, and so on, with many of them under way at once.

First turns are sampled together, as completions of one turn are, so an episode with one turn is such a completion.
Later turns are sampled as they come up, each behind its own episode's tokens, by the adapter of the first one.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from lora.load import load_tokenizer
from lora.types import Adapter
from rl.algorithm.groups import Question, Sampler
from rl.algorithm.seeds import environment_seed, turn_seed
from rl.config import EpisodesConfig, RunConfig, replaced
from rl.data.prompts import Encoder
from rl.episodes.episode import GrowingEpisode
from rl.episodes.factory import EnvironmentFactory, beside, load_environment
from rl.episodes.processes import EnvironmentPool
from rl.episodes.render import Renderer
from rl.episodes.tool_prompt import prompt_with_tools
from rl.episodes.tools import load_tools
from rl.episodes.worker import Answer, Call
from rl.types import Ending, Episode
from rollout.config import SamplingConfig
from rollout.types import Completion, Engine, Place

Ended = tuple[Place, Completion]


@dataclass(frozen=True, slots=True)
class EpisodePlayer(Sampler):
    """Answers questions by episodes."""

    config: EpisodesConfig
    engine: Engine
    environments: EnvironmentPool
    renderer: Renderer

    async def stream(
        self, questions: Sequence[Question], adapter: Adapter, sampling: SamplingConfig
    ) -> AsyncGenerator[Ended]:
        """Yield episodes as they end, each with its question's index and its place in the group."""
        ended: asyncio.Queue[Ended | None] = asyncio.Queue()
        playing = asyncio.create_task(self._play_all(questions, adapter, sampling, ended.put_nowait))
        playing.add_done_callback(lambda _: ended.put_nowait(None))
        try:
            while (episode := await ended.get()) is not None:
                yield episode
            await playing
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)

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
            episode.add_turn(turn)
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


def factory_of(config: EpisodesConfig) -> EnvironmentFactory:
    """Return what makes the environments of a run that has some. Raises ValueError if it cannot be loaded."""
    return load_tools(config.tools) if config.environment is None else load_environment(config.environment)


def absolute_episodes(config: EpisodesConfig, base: Path) -> EpisodesConfig:
    """Return the same with the absolute paths of files that lie beside a configuration in `base`."""
    environment = None if config.environment is None else beside(config.environment, base)
    return replaced(config, environment=environment, tools=tuple(beside(tool, base) for tool in config.tools))


def check_episodes(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """See before a run begins that its episodes can be played. Raises ValueError if they cannot."""
    if config.episodes.on:
        factory_of(config.episodes).pack()
        renderer_of(config, tokenizer)


def encoder_of(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> Encoder:
    """Return what makes a run's prompts, with its tools in them. Raises ValueError as `check_episodes` does."""
    prompt, schemas = prompt_with_tools(config.prompt, config.episodes, tokenizer)
    return Encoder(tokenizer, prompt, config.room_for_prompt, tools=schemas)


def renderer_of(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> Renderer:
    """Return what writes an environment's messages as tokens. Raises ValueError as `check_episodes` does."""
    prompt, _ = prompt_with_tools(config.prompt, config.episodes, tokenizer)
    return Renderer(tokenizer, prompt, tools=bool(config.episodes.tools))


def open_environments(config: EpisodesConfig) -> EnvironmentPool:
    """Return processes of environments, to be closed. Raises ValueError if the environment cannot be loaded."""
    return EnvironmentPool(factory_of(config), config)


def player_of(config: RunConfig, engine: Engine, environments: EnvironmentPool) -> EpisodePlayer:
    """Return what plays a run's episodes. Raises ValueError if its model's template refuses an environment's words."""
    renderer = renderer_of(config, load_tokenizer(config.model))
    return EpisodePlayer(config.episodes, engine, environments, renderer)


@asynccontextmanager
async def open_player(config: RunConfig, engine: Engine) -> AsyncGenerator[EpisodePlayer | None]:
    """Open what plays a run's episodes, with processes of its own; None for a run without episodes."""
    if not config.episodes.on:
        yield None
        return
    environments = open_environments(config.episodes)
    try:
        yield player_of(config, engine, environments)
    finally:
        await environments.close()
