"""Opens what plays a run's episodes, by its configuration: its environment, its tools, and the form of its chats."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from transformers import PreTrainedTokenizerBase

from lora.base.tokenizer import load_end_tokens, load_tokenizer
from rl.algorithm.sampling.groups import Sampler
from rl.config import EpisodesConfig, ProblemsConfig, RunConfig, Verifiers, replaced
from rl.config.episodes import VERIFIERS
from rl.data.files import locate
from rl.data.prompts import Encoder
from rl.data.verifiers import origin_of
from rl.episodes.by_source import SourceEncoder, SourceSampler
from rl.episodes.environments.factory import EnvironmentFactory, beside, load_environment
from rl.episodes.environments.pool import EnvironmentPool
from rl.episodes.opening import OpeningEncoder
from rl.episodes.tools.calls import CallReader, HermesReader, NoReader, VllmReader
from rl.episodes.tools.environment import ToolFactory, load_tools
from rl.episodes.tools.format import parser_of
from rl.episodes.tools.prompt import prompt_with_tools, schemas_of
from rl.episodes.turns.player import EpisodePlayer
from rl.episodes.turns.render import Renderer
from rl.episodes.verifiers.conversation import Speaker
from rl.episodes.verifiers.host import VerifiersHost
from rl.episodes.verifiers.player import VerifiersPlayer
from rollout.types import Engine


@dataclass(frozen=True, slots=True)
class Environments:
    """The processes that a run's episodes are played in."""

    pool: EnvironmentPool | VerifiersHost
    reader: CallReader | None
    """Finds calls of tools; None leaves it to the environment, which knows Hermes' form."""

    async def close(self) -> None:
        """End them."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.pool.close)
            if self.reader is not None:
                stack.push_async_callback(self.reader.close)


def factory_of(config: EpisodesConfig) -> EnvironmentFactory:
    """Return what makes the environments of a run that has some. Raises ValueError if it cannot be loaded."""
    return load_tools(config.tools) if config.environment is None else load_environment(config.environment)


def absolute_episodes(config: EpisodesConfig, base: Path) -> EpisodesConfig:
    """Return the same with the absolute paths of files that lie beside a configuration in `base`."""
    environment = None if config.environment is None else _beside(config.environment, base)
    return replaced(config, environment=environment, tools=tuple(beside(tool, base) for tool in config.tools))


def _beside(name: str, base: Path) -> str:
    if not name.startswith(VERIFIERS):
        return beside(name, base)
    file = locate(name.removeprefix(VERIFIERS), base) if name.endswith(".py") else None
    return name if file is None else f"{VERIFIERS}{file.resolve()}"


def absolute_sources(config: ProblemsConfig, base: Path) -> ProblemsConfig:
    """Return the same with those paths absolute in the episodes that sources have of their own."""
    if not isinstance(config, tuple):
        return config
    own = [None if source.episodes is None else absolute_episodes(source.episodes, base) for source in config]
    return tuple(replaced(source, episodes=episodes) for source, episodes in zip(config, own, strict=True))


def check_episodes(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """See before a run begins that its episodes can be played. Raises ValueError if they cannot."""
    for source in config.source_keys:
        _check_own(config.for_source(source), tokenizer)


def _check_own(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    if not config.episodes.on:
        return
    if config.episodes.taskset is None:
        factory_of(config.episodes).pack()
        renderer_of(config, tokenizer)
    else:
        Renderer(tokenizer, config.prompt)
    if config.episodes.tools:
        parser_of(config.episodes, config.prompt, tokenizer)


def encoder_of(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> Encoder:
    """Return what makes a run's prompts, with its tools in them. Raises ValueError as `check_episodes` does."""
    if any(source.episodes is not None for source in config.sources):
        return SourceEncoder({key: _own_encoder(config.for_source(key), tokenizer) for key in config.source_keys})
    return _own_encoder(config, tokenizer)


def _own_encoder(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> Encoder:
    if config.episodes.taskset is not None:
        return OpeningEncoder(tokenizer, config.prompt, config.room_for_prompt)
    prompt, schemas = prompt_with_tools(config.prompt, config.episodes, tokenizer)
    return Encoder(tokenizer, prompt, config.room_for_prompt, tools=schemas)


def renderer_of(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> Renderer:
    """Return what writes an environment's messages as tokens. Raises ValueError as `check_episodes` does."""
    prompt, _ = prompt_with_tools(config.prompt, config.episodes, tokenizer)
    return Renderer(tokenizer, prompt, tools=bool(config.episodes.tools), end_tokens=_ends(config, tokenizer))


def open_environments(config: RunConfig) -> Environments:
    """Return processes of environments, to be closed. Raises ValueError if the environment cannot be loaded."""
    if isinstance(config.data, Verifiers) and config.episodes.taskset is not None:
        reader = _reader_of_any(config)
        return Environments(VerifiersHost(origin_of(config.data, Path.cwd()), config.episodes), reader)
    reader = _reader(config) if config.episodes.tools else None
    return Environments(EnvironmentPool(factory_of(config.episodes), config.episodes), reader)


def player_of(config: RunConfig, engine: Engine, environments: Environments) -> Sampler:
    """Return what plays a run's episodes. Raises ValueError if its model's template refuses an environment's words."""
    tokenizer, (pool, reader) = load_tokenizer(config.model), (environments.pool, environments.reader)
    if isinstance(pool, VerifiersHost):
        return VerifiersPlayer(speaker_of(config, tokenizer, engine, reader or HermesReader()), pool)
    tools = [] if reader is None else schemas_of(cast("ToolFactory", load_tools(config.episodes.tools).make).tools)
    return EpisodePlayer(config.episodes, engine, pool, renderer_of(config, tokenizer), reader, tools)


def speaker_of(config: RunConfig, tokenizer: PreTrainedTokenizerBase, engine: Engine, reader: CallReader) -> Speaker:
    """Return what writes the turns that an environment asks for."""
    return Speaker(config.episodes, config.prompt, engine, tokenizer, reader, _ends(config, tokenizer))


def _ends(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    return frozenset(load_end_tokens(config.model, tokenizer))


def _reader(config: RunConfig) -> CallReader | None:
    """Return what finds calls of tools by vLLM's parser; None for Hermes' form, which needs none."""
    parser = parser_of(config.episodes, config.prompt, load_tokenizer(config.model))
    return None if parser == "auto" else VllmReader(parser, config.model, config.episodes)


def _reader_of_any(config: RunConfig) -> CallReader:
    """Return what finds calls of tools that an environment may or may not have."""
    try:
        return _reader(config) or HermesReader()
    except ValueError as error:
        return NoReader(str(error))


def sampler_of(config: RunConfig, engine: Engine, environments: Callable[[RunConfig], Environments]) -> Sampler | None:
    """Return what answers a run's questions where some are answered by episodes, else None.

    `environments` returns the processes that the episodes of a configuration with but one kind of them are played in.
    """
    if not config.plays:
        return None

    def own(config: RunConfig) -> Sampler | None:
        return player_of(config, engine, environments(config)) if config.episodes.on else None

    if any(source.episodes is not None for source in config.sources):
        return SourceSampler(engine, {key: own(config.for_source(key)) for key in config.source_keys})
    return own(config)


@asynccontextmanager
async def open_player(config: RunConfig, engine: Engine) -> AsyncGenerator[Sampler | None]:
    """Open what answers a run's questions by episodes, with processes of its own; None for a run without episodes."""
    opened = SharedEnvironments()
    try:
        yield sampler_of(config, engine, opened)
    finally:
        await opened.close()


class SharedEnvironments:
    """Opens processes of environments once for each kind of episodes, and closes all of them."""

    def __init__(self) -> None:
        self._opened: dict[str, Environments] = {}

    def __call__(self, config: RunConfig) -> Environments:
        """Return those of a configuration's episodes. Raises ValueError if the environment cannot be loaded."""
        key = kind_of_episodes(config)
        if key not in self._opened:
            self._opened[key] = open_environments(config)
        return self._opened[key]

    async def close(self) -> None:
        """End them."""
        async with AsyncExitStack() as stack:
            for environments in self._opened.values():
                stack.push_async_callback(environments.close)


def kind_of_episodes(config: RunConfig) -> str:
    """Return a text that is the same for configurations whose episodes the same processes can play."""
    return repr((config.episodes, config.data if config.episodes.taskset is not None else None))
