"""Tries an environment on a few turns before any model is loaded, in a process such as it will live in."""

from collections.abc import Sequence

from rewards.types import Problem
from rl.config import EpisodesConfig, PromptConfig, replaced
from rl.data.prompts import chat
from rl.episodes.environment import Message
from rl.episodes.factory import EnvironmentFactory
from rl.episodes.player import factory_of
from rl.episodes.processes import EnvironmentPool
from rl.episodes.worker import Answer, Call

MOST_TURNS = 2
"""Turns of the trial: an environment that goes on is kept between them, and woken for the second."""

OURS = "/rl/episodes/worker.py"
"""The file whose frames say nothing of an environment."""


async def try_environment(config: EpisodesConfig, prompt: PromptConfig, problem: Problem) -> None:
    """Let an environment answer two turns of which each is the problem's answer; nothing without episodes.

    Raises:
        ValueError: it cannot be loaded, or a step hung or failed. One line.
    """
    if not config.on:
        return
    factory = factory_of(config)
    environments = EnvironmentPool(factory, replaced(config, workers=1))
    try:
        await _play(environments, factory, problem, list(chat(prompt, problem.question)))
    finally:
        await environments.close()


async def _play(
    environments: EnvironmentPool, factory: EnvironmentFactory, problem: Problem, messages: list[Message]
) -> None:
    asleep = None
    for _ in range(MOST_TURNS):
        messages.append({"role": "assistant", "content": problem.answer})
        answer = await environments.answer(Call(problem, 0, asleep, tuple(messages)), logs=False)
        if answer.failure is not None:
            raise ValueError(f"{factory.name} failed on a trial turn, {problem.answer[:40]!r}: {_reason(answer)}")
        if answer.observation.done:
            return
        asleep = answer.asleep
        messages += answer.observation.listed()


def _reason(answer: Answer) -> str:
    """Return a failure in one line: of a traceback the last one, and where it was raised."""
    lines: Sequence[str] = [line.strip() for line in answer.message.splitlines()]
    if not answer.message.startswith("Traceback"):
        return " ".join(lines)
    frames = [line for line in lines if line.startswith("File ") and OURS not in line]
    return f"{lines[-1]} ({frames[-1]})" if frames else lines[-1]
