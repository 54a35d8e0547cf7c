"""Tries an environment on a few turns before any model is loaded, in a process such as it will live in."""

from collections.abc import Sequence
from typing import Any, cast

from lora.base.tokenizer import load_tokenizer
from lora.types import Adapter
from rewards.types import Problem
from rl.algorithm.sampling.groups import Question
from rl.config import RunConfig, replaced
from rl.data.prompts import chat
from rl.episodes.environment import Message
from rl.episodes.environments.factory import EnvironmentFactory
from rl.episodes.environments.pool import EnvironmentPool
from rl.episodes.environments.worker import Answer, Call
from rl.episodes.open import encoder_of, factory_of, kind_of_episodes, open_environments, player_of
from rl.episodes.tools.calls import CallReader
from rl.episodes.verifiers.player import VerifiersPlayer
from rollout.config import SamplingConfig
from rollout.types import Completion

MOST_TURNS = 2
"""Turns of the trial: an environment that goes on is kept between them, and woken for the second."""

OURS = "/rl/episodes/environments/worker.py"
"""The file whose frames say nothing of an environment."""
TURN = "1"
"""The policy's turn where a problem has no answer."""


async def try_environments(config: RunConfig, problems: Sequence[Problem], tried: set[str]) -> None:
    """Try those of all sources that have problems here, but for the kinds in `tried`, which are added to it.

    Raises:
        ValueError: as `try_environment`.
    """
    for key in config.source_keys:
        own = config.for_source(key)
        problem = next((problem for problem in problems if problem.source == key or not key), None)
        if problem is not None and kind_of_episodes(own) not in tried:
            tried.add(kind_of_episodes(own))
            await try_environment(own, problem)


async def try_environment(config: RunConfig, problem: Problem) -> None:
    """Let an environment answer two turns of which each is the problem's answer; nothing without episodes.

    Raises:
        ValueError: it cannot be loaded, or a step hung or failed, or the calls of tools cannot be found. One line.
    """
    if not config.episodes.on:
        return
    if config.episodes.taskset is not None:
        await _try_verifiers(config, problem)
        return
    factory = factory_of(config.episodes)
    environments = open_environments(replaced(config, episodes={"workers": 1}))
    try:
        if environments.reader is not None:
            await _try_reader(environments.reader)
        assert isinstance(environments.pool, EnvironmentPool)
        await _play(environments.pool, factory, problem, list(chat(config.prompt, problem.question)))
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


async def _try_reader(reader: CallReader) -> None:
    """Load a parser. Raises ValueError of one line if that cannot be."""
    tool = {"type": "function", "function": {"name": "f", "description": "f", "parameters": {"type": "object"}}}
    try:
        await reader.read(TURN, [tool])
    except (ValueError, TimeoutError) as error:
        last = str(error).strip().splitlines()[-1]
        raise ValueError(last.removeprefix("ValueError: ")) from None


async def _try_verifiers(config: RunConfig, problem: Problem) -> None:
    """Play an episode in which the policy says the same in each turn."""
    tokenizer = load_tokenizer(config.model)
    environments = open_environments(replaced(config, episodes={"workers": 1}))
    try:
        player = player_of(config, cast("Any", _OneAnswer(tokenizer)), environments)
        assert isinstance(player, VerifiersPlayer)
        question = Question(0, problem, encoder_of(config, tokenizer)(problem), 0)
        _, failure = await player.play(question, 0, Adapter("trial", 0, b""), config.sampling)
        if failure:
            raise ValueError(
                f"{config.episodes.environment} failed on a trial episode of task {problem.id}, with {TURN!r} as each "
                f"turn: {failure.splitlines()[0]}"
            )
    finally:
        await environments.close()


class _OneAnswer:
    """An engine that writes the same turn each time."""

    def __init__(self, tokenizer: Any) -> None:
        self._ids = tuple(tokenizer(TURN, add_special_tokens=False)["input_ids"])

    async def sample(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        turn = Completion(self._ids, (0.0,) * len(self._ids), TURN, "stop", adapter.version)
        return [[turn] for _ in prompts]


def _reason(answer: Answer) -> str:
    """Return a failure in one line: of a traceback the last one, and where it was raised."""
    lines: Sequence[str] = [line.strip() for line in answer.message.splitlines()]
    if not answer.message.startswith("Traceback"):
        return " ".join(lines)
    frames = [line for line in lines if line.startswith("File ") and OURS not in line]
    return f"{lines[-1]} ({frames[-1]})" if frames else lines[-1]
