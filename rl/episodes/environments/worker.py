"""A process of environments: each call makes or wakes one, lets it answer a turn, and sends it back asleep.

It keeps nothing between two calls, so any process may answer any turn, and one that is killed costs its episode alone.
It imports neither torch, ray nor vllm.
"""

import asyncio
import inspect
import io
import json
import pickle
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal, cast

import cloudpickle

import rewards.grading.worker
from rewards.types import MOST_REWARD, Problem
from rl.episodes.environment import Message, Observation
from rl.episodes.environments.factory import EnvironmentFactory

CLASS = "the environment's class"
"""Name in a sleeping environment for its class, which every process has already."""
MOST_TEXT = 2**20
"""Characters of an answer, written as JSON: far more than any context holds."""


NOTHING = Observation()


@dataclass(frozen=True, slots=True)
class Call:
    """A turn to be answered."""

    problem: Problem
    seed: int
    asleep: bytes | None
    """The environment, or None before its first turn."""
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """An environment's answer, and itself for the next turn; or the failure it ended with."""

    observation: Observation = NOTHING
    asleep: bytes | None = None
    failure: Literal["timeout", "crashed"] | None = None
    kind: str = ""
    """A failure's kind, of which the first is logged."""
    message: str = ""


def main(descriptor: int, parent: int, stack: int) -> None:
    """Serve until the parent closes its end."""
    rewards.grading.worker.main(descriptor, parent, stack, _serve)


def _serve(connection: Connection, unpacked: Any) -> None:
    while True:
        answer = answer_call(unpacked, connection.recv())
        connection.send(answer)
        if answer.failure == "timeout":
            return  # out of memory: what is left of this process is not worth keeping


def answer_call(factory: EnvironmentFactory, call: Call) -> Answer:
    """Return the answer to a turn. An environment's exception is a failure, and raises nothing."""
    try:
        environment = factory(call.problem, call.seed) if call.asleep is None else _wake(call.asleep, factory)
        observation = checked(_result(environment.step(list(call.messages))))
        stays = not observation.done and not getattr(environment, "stateless", False)
        return Answer(observation, _asleep(environment, factory) if stays else None)
    except MemoryError:
        return Answer(failure="timeout", kind="memory", message="passed episodes.memory_mb")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a SystemExit is a failure of it, too
        return Answer(failure="crashed", kind=_kind(error), message=_shown(error))


def checked(returned: Any) -> Observation:
    """Return what `step` returned as an observation; a mapping with the same names will do.

    Raises:
        ValueError: it is none.
    """
    if isinstance(returned, Mapping):
        returned = Observation(**cast("Mapping[str, Any]", returned))
    if not isinstance(returned, Observation):
        raise ValueError(f"step returned {type(returned).__name__}, not an Observation")
    messages = _plain(returned.listed())
    if any(not isinstance(m.get("content"), str) or not isinstance(m.get("role"), str) for m in messages):
        raise ValueError("a message of step's needs a role and a content, both texts")
    reward = None if returned.reward is None else float(returned.reward)
    if reward is not None and not abs(reward) <= MOST_REWARD:
        raise ValueError(f"step returned the reward {reward}")
    return Observation(messages, bool(returned.done), reward)


def _plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return messages of Python's own types alone, with a ? for what UTF-8 cannot write: half of a surrogate pair.

    They go to another process, a tokenizer and a file of JSON, none of which takes anything else; and a policy may have
    had such a half printed by a tool.
    """
    try:
        text = json.dumps([dict(message) for message in messages], ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a message of step's is no mapping, or cannot be written as JSON: {error}") from None
    if len(text) > MOST_TEXT:
        raise ValueError(f"step returned more than {MOST_TEXT} characters")
    return json.loads(text.encode("utf-8", "replace"))


def _result(returned: Any) -> Any:
    return asyncio.run(_awaited(returned)) if inspect.isawaitable(returned) else returned


async def _awaited(returned: Any) -> Any:
    return await returned


class _Pickler(cloudpickle.Pickler):
    """Pickles an environment without its class's code."""

    def __init__(self, file: io.BytesIO, own: type) -> None:
        super().__init__(file)
        self._own = own

    def persistent_id(self, obj: Any) -> str | None:
        return CLASS if obj is self._own else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, own: type) -> None:
        super().__init__(file)
        self._own = own

    def persistent_load(self, pid: Any) -> type:
        return self._own


def _asleep(environment: Any, factory: EnvironmentFactory) -> bytes:
    """Pickle an environment. Raises ValueError if something in it cannot be."""
    file = io.BytesIO()
    try:
        _Pickler(file, _class(factory)).dump(environment)
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(
            f"the environment cannot be kept until the next turn: {error}; keep open files, locks and connections out "
            "of its attributes"
        ) from None
    return file.getvalue()


def _wake(asleep: bytes, factory: EnvironmentFactory) -> Any:
    return _Unpickler(io.BytesIO(asleep), _class(factory)).load()


def _class(factory: EnvironmentFactory) -> type:
    """Return the class that a factory is, or one that nothing is of."""
    return factory.make if inspect.isclass(factory.make) else _Nobody


class _Nobody:
    """The class of no environment."""


def _shown(error: BaseException) -> str:
    """Return a traceback from the environment's first frame on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None and _is_ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames)).rstrip()


def _kind(error: BaseException) -> str:
    frames: Sequence[traceback.FrameSummary] = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at line {frames[-1].lineno if frames else '?'}"


def _is_ours(file: str) -> bool:
    return file in (__file__, EnvironmentFactory.__call__.__code__.co_filename) or "/asyncio/" in file
