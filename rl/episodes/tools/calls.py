"""Calls of tools in the policy's turns: found by vLLM's parsers in a process that can be killed; of Hermes' form here.

What a parser reads is hostile: one that hangs is killed, and that costs the episode; one that raises has found no call.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lora.config import ModelConfig
from rewards.types import Problem
from rl.config import EpisodesConfig, replaced
from rl.episodes.environment import Message, Observation
from rl.episodes.environments.factory import EnvironmentFactory
from rl.episodes.environments.pool import EnvironmentPool
from rl.episodes.environments.worker import Answer, Call
from rl.episodes.tools.environment import CALL, parsed

PARSER_MEMORY_MB = 4096
"""Address space that a parser may take on top of what vLLM has."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool. Example: ``ToolCall("call-0-0", "python", '{"code": "1 + 1"}')``"""

    id: str
    name: str
    arguments: str
    """JSON, if the policy wrote JSON."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The text of a turn, and the calls in it."""

    content: str
    calls: tuple[tuple[str, str], ...] = ()
    """Tools and arguments."""


class CallReader(Protocol):
    """Finds calls in turns."""

    async def read(self, text: str, tools: Sequence[Mapping[str, Any]]) -> Turn:
        """Return a turn's calls. Raises TimeoutError if that takes too long."""
        ...

    async def close(self) -> None:
        """End its processes."""


class HermesReader(CallReader):
    """Finds calls in Hermes' form. A turn in which one is no JSON has none: it is a text then."""

    async def read(self, text: str, tools: Sequence[Mapping[str, Any]]) -> Turn:
        written: list[str] = CALL.findall(text) if tools else []
        try:
            calls = tuple((name, json.dumps(arguments)) for name, arguments in map(parsed, written))
        except ValueError:
            return Turn(text)
        return Turn(text.partition("<tool_call>")[0].strip(), calls) if calls else Turn(text)

    async def close(self) -> None:
        """Do nothing: it has no process."""


class NoReader(CallReader):
    """Finds no calls, and refuses tools, because the form of calls is not known."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def read(self, text: str, tools: Sequence[Mapping[str, Any]]) -> Turn:
        """Return a turn of an environment without tools. Raises ValueError of one that has some."""
        if tools:
            raise ValueError(self._reason)
        return Turn(text)

    async def close(self) -> None:
        """Do nothing: it has no process."""


class VllmReader(CallReader):
    """Finds calls by a parser of vLLM's, in a process of its own that is started when it is first needed."""

    def __init__(self, parser: str, model: ModelConfig, config: EpisodesConfig) -> None:
        make = ParserFactory(parser, model)
        factory = EnvironmentFactory(f"vLLM's parser {parser!r}", make, sees_answers=False)
        self._pool = EnvironmentPool(factory, replaced(config, workers=1, memory_mb=PARSER_MEMORY_MB))

    async def read(self, text: str, tools: Sequence[Mapping[str, Any]]) -> Turn:
        """Return a turn's calls. Raises TimeoutError past `step_timeout`, ValueError if the parser cannot be loaded."""
        if not tools:
            return Turn(text)
        message = {"role": "assistant", "content": text, "tools": list(tools)}
        answer: Answer = await self._pool.answer(Call(Problem("", "", ""), 0, None, (message,)))
        if answer.failure == "timeout":
            raise TimeoutError(answer.message)
        if answer.failure is not None:
            return Turn(text)
        (turn,) = answer.observation.listed()
        return Turn(turn["content"], tuple((name, arguments) for name, arguments in turn["calls"]))

    async def close(self) -> None:
        await self._pool.close()


@dataclass(frozen=True, slots=True)
class ParserFactory:
    """A parser on its way to a process, which loads it on arrival."""

    parser: str
    model: ModelConfig

    def __call__(self, problem: Problem) -> Any:
        raise AssertionError("a parser is made where it arrives")

    def __reduce__(self) -> tuple[Any, ...]:
        return _LoadedParser, (self.parser, self.model)


class _LoadedParser:
    """A parser in its process, which answers as an environment does."""

    stateless = True

    def __init__(self, parser: str, model: ModelConfig) -> None:
        from rollout.vllm.tool_calls import VllmToolCalls  # vLLM, which the run's own process can do without

        self._found = VllmToolCalls(parser, model)

    def __call__(self, problem: Problem) -> "_LoadedParser":
        return self

    def step(self, messages: list[Message]) -> Observation:
        """Return the calls in a message."""
        content, calls = self._found.read(messages[-1]["content"], messages[-1]["tools"])
        return Observation([{"role": "assistant", "content": content, "calls": calls}], done=True)
