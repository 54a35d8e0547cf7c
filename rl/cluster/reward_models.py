"""Reward models on a cluster: an actor each, in the place that the reservation keeps for it, replaced when it dies."""

import asyncio
import logging
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from rewards.config import RewardTerm
from rewards.functions.scores import RewardFunctionError
from rewards.grading.panel import Scorer, Verdict
from rewards.types import Problem
from rl.cluster.placement import may_use_gpu
from rl.cluster.reservation import Reservation
from rl.config import RunConfig, replaced
from rl.learner.reward_model import RewardModel
from rollout.environment import torch_environment
from rollout.ray.errors import cause, describe_death, is_death
from rollout.ray.placement import check_device

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""A group by which an actor dies so often in a row counts as failed."""

Output = float | tuple[str, str]
"""A score, or a failure's message and kind."""


class RewardModelActor:
    """A `RewardModel` in an actor. It loads the model in `start`, so that a refusal reaches the caller whole."""

    def __init__(self) -> None:
        """Begin without a model."""

    def start(self, threads: int, term: RewardTerm) -> None:
        """Load the model."""
        import torch

        check_device(term.reward_model_device)
        torch.set_num_threads(threads)
        self._model = RewardModel(term)

    def score(self, question: str, texts: Sequence[str]) -> list[Output]:
        """Return the outputs for a group."""
        return [_sendable(verdict) for verdict in self._model.verdicts(question, texts)]

    def pid(self) -> int:
        return os.getpid()


class RayRewardModel:
    """The actor as its user sees it: a `Scorer`, for any event loops and threads."""

    def __init__(self, term: RewardTerm, reservation: Reservation, index: int) -> None:
        """Start it. Raises ValueError of one line if there is no such model."""
        self._term = term
        self._reservation = reservation
        self._index = index
        self._lock = threading.Lock()
        self._actor: Any = None
        self._number = 0
        """Of the actor: how many there were before it."""
        self._closed = False
        self._start()

    async def score(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        """Return the model's output for each text. What fails is returned, not raised."""
        reason = ""
        for _ in range(ATTEMPTS):
            number = self._number
            try:
                if self._actor is None:
                    raise ValueError("it was not started again")
                answer = self._actor.score.remote(problem.question, list(texts)).future()
                outputs: list[Output] = await asyncio.wrap_future(answer)
                return [_verdict(output) for output in outputs]
            except Exception as error:
                if not is_death(error) and self._actor is not None:
                    reason = f"{type(cause(error)).__name__}: {cause(error)}"
                    break
                reason = describe_death(error) if is_death(error) else str(error)
            try:
                await self._replace(number, reason)
            except Exception as error:
                reason = f"it did not come back: {error}"
                break
        message = f"{self._term.name}: {reason}"[:1000]
        return [RewardFunctionError(message, f"{self._term.name}: its actor") for _ in texts]

    async def close(self) -> None:
        """Keep the actor: other graders may ask it. `end` ends it."""

    def end(self) -> None:
        """End the actor."""
        with self._lock:
            self._closed = True
            self._kill()

    def pid(self) -> int:
        """Return the actor's process id, on its node."""
        return ray.get(self._actor.pid.remote())

    async def _replace(self, number: int, reason: str) -> None:
        """Start another actor in place of that one, unless somebody else has."""
        await self._reservation.wait_for_reward_model(self._index)
        await asyncio.to_thread(self._replace_now, number, reason)

    def _replace_now(self, number: int, reason: str) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("the run is ending")
            if self._number == number:
                log.warning("the reward model died, and is started again: %s", reason)
                self._kill()
                self._start()

    def _start(self) -> None:
        place = self._reservation.reward_model(self._index)
        device = "cuda" if place.gpus else "cpu"
        if may_use_gpu(self._term) and not place.gpus and self._reservation.request.gpus:
            log.warning("%s is on the CPU: the cluster has no GPU to spare for it", self._term.name)
        options = {"runtime_env": {"env_vars": torch_environment(on_gpu=bool(place.gpus))}}
        actor: Any = ray.remote(RewardModelActor).options(**options, **place.actor_options()).remote()
        self._number += 1
        try:
            ray.get(actor.start.remote(place.threads, replaced(self._term, reward_model_device=device)))
        except BaseException as error:
            ray.kill(actor)
            raise cause(error) from error
        self._actor = actor

    def _kill(self) -> None:
        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None


@dataclass(slots=True)
class RewardModels:
    """The reward models of a reservation, each started when it is first asked for; runs that name the same share it."""

    reservation: Reservation
    terms: Sequence[RewardTerm]
    """In the order of the reservation's bundles."""
    _started: dict[RewardTerm, RayRewardModel] = field(default_factory=dict[RewardTerm, RayRewardModel])

    def __call__(self, term: RewardTerm) -> Scorer:
        """Return what scores for a term. Raises ValueError of one line if there is no such model."""
        model = _unweighted(term)
        if model not in self._started:
            self._started[model] = RayRewardModel(model, self.reservation, self.terms.index(model))
        return self._started[model]

    def end(self) -> None:
        """End all actors."""
        for model in self._started.values():
            model.end()


def reward_models_of(configs: Iterable[RunConfig]) -> list[RewardTerm]:
    """Return the different reward models of runs, without their weights."""
    rewards = (reward for config in configs for reward in config.rewards)
    terms = (term for reward in rewards for term in reward.all_terms if term.reward_model is not None)
    return list(dict.fromkeys(map(_unweighted, terms)))


def _unweighted(term: RewardTerm) -> RewardTerm:
    return replaced(term, weight=1.0)


def _sendable(verdict: Verdict) -> Output:
    """Return a verdict as a value that any process can read."""
    if isinstance(verdict, RewardFunctionError):
        return str(verdict), verdict.kind
    assert isinstance(verdict, float)
    return verdict


def _verdict(output: Output) -> Verdict:
    return RewardFunctionError(*output) if isinstance(output, tuple) else output
