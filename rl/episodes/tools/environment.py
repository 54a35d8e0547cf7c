"""The environment of tools: it runs the calls in a turn, and ends the episode at a turn without one.

Tools live in the processes of environments, which are killed when their time is up. They are given the messages alone:
no problem, no answer.
"""

import asyncio
import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from rewards.functions.find import find_function
from rewards.types import Problem
from rl.episodes.calculator.calculate import calculate
from rl.episodes.environment import Message, Observation
from rl.episodes.environments.factory import EnvironmentFactory

CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)
"""A call as Hermes, Qwen and SmolLM2 write it. The end may be missing where `sampling.stop` names it."""
MOST_CALLS = 8
"""Calls of a turn that are answered."""
MOST_RESULT = 8000
"""Characters of a tool's answer."""


def python(code: str) -> str:
    """Calculate with Python: numbers, fractions, lists, loops and the functions of math; no files, no other modules.

    Args:
        code: The program. What it prints is the result, or the value of its last line.
    """
    return calculate(code)


BUILT_IN: Mapping[str, Callable[..., Any]] = {"python": python}


@dataclass(frozen=True, slots=True)
class ToolFactory:
    """Makes environments of the same tools."""

    tools: Mapping[str, Callable[..., Any]]

    def __call__(self, problem: Problem) -> "ToolEnvironment":
        return ToolEnvironment(self.tools)


@dataclass(frozen=True, slots=True)
class ToolEnvironment:
    """Runs the calls of a turn. It remembers nothing, so it is made anew for each."""

    tools: Mapping[str, Callable[..., Any]]
    stateless = True

    async def step(self, messages: list[Message]) -> Observation:
        """Answer each call of the turn by a message; a turn without one is the last."""
        calls = calls_of(messages[-1])
        if not calls:
            return Observation(done=True)
        return Observation([await self._answer(call) for call in calls[:MOST_CALLS]])

    async def _answer(self, call: str | Mapping[str, Any]) -> Message:
        try:
            name, arguments = parsed(call)
            if name not in self.tools:
                raise ValueError(f"there is no tool {name[:40]!r}; there are: {', '.join(self.tools)}")
            result = self.tools[name](**arguments)
            text = str(await result if inspect.isawaitable(result) else result)
        except (MemoryError, KeyboardInterrupt, asyncio.CancelledError):
            raise
        except BaseException as error:  # the policy may read what is wrong with its call, and go on
            name, text = "error", f"Error: {type(error).__name__}: {error}"
        return {"role": "tool", "name": name, "content": text[:MOST_RESULT]}


def calls_of(turn: Message) -> list[str | Mapping[str, Any]]:
    """Return a turn's calls: those that a parser has found, or the texts of those in Hermes' form."""
    parsed_calls = turn.get("tool_calls")
    return CALL.findall(str(turn["content"])) if parsed_calls is None else list(parsed_calls)


def parsed(call: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a call's tool and arguments. Raises ValueError if it is not `{"name": ..., "arguments": {...}}`."""
    value: Any = _read(call) if isinstance(call, str) else call
    fields = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    name, arguments = fields.get("name"), fields.get("arguments", {})
    if isinstance(arguments, str):  # as parsers return them
        arguments = _read(arguments)
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError('a call is {"name": ..., "arguments": {...}}')
    return name, cast("dict[str, Any]", arguments)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("the call is no JSON") from None


def load_tools(names: tuple[str, ...]) -> EnvironmentFactory:
    """Load tools by name: `python`, `file.py:name`, `package.module:name`. Raises ValueError if one cannot be."""
    tools: dict[str, Callable[..., Any]] = {}
    modules: list[str] = []
    for name in names:
        function, own = (BUILT_IN[name], ()) if name in BUILT_IN else find_function(name, "tool", BUILT_IN)
        if function.__name__ in tools:
            raise ValueError(f"episodes.tools has two functions {function.__name__!r}: rename one of them")
        tools[function.__name__] = function
        modules += own
    return EnvironmentFactory(", ".join(names), ToolFactory(tools), tuple(modules), sees_answers=False)
