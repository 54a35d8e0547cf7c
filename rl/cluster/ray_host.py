"""The learner in Ray actors, as its user sees it: one, or several that divide the rows of each update."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, TypeVar

import ray

from lora.messages import first_line
from lora.types import Adapter
from rl.algorithm.batch.packing import split_indices
from rl.cluster.learner_actor import LearnerActor, Rendezvous
from rl.learner.passes.policy_loss import ForwardBackward
from rl.learner.policies.policy import AdamConfig, PolicySpec
from rl.learner.policy_host import LearnerHost, LearnerSpec, Metrics, PolicyUpdate
from rl.types import LearnerDied, Under
from rollout.environment import torch_environment
from rollout.ray.errors import cause, describe_death, is_death
from rollout.ray.placement import ActorPlacement

GRACE_S = 5.0
"""How long the other learners may take to notice that one of them is gone."""

T = TypeVar("T")


class RayHost(LearnerHost):
    """The actors as their user sees them: as one. Every call raises `LearnerDied` if one of them is gone or silent.

    Several divide each update's rows and add up their gradients, so that each makes the whole update; what changes or
    needs all parts of a model is asked of all of them, the rest of the first.
    """

    def __init__(
        self,
        spec: LearnerSpec,
        place: Callable[[int], ActorPlacement],
        placed: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._spec = spec
        self._place = place
        self._placed = placed
        self._stall_timeout = spec.learner.stall_timeout
        self._actors: list[Any] = []

    @classmethod
    async def start(
        cls,
        spec: LearnerSpec,
        place: Callable[[int], ActorPlacement],
        placed: Callable[[], Awaitable[None]] | None = None,
    ) -> Self:
        """Start an actor for each learner, at what is its place each time it starts, once all are `placed`.

        Raises:
            ValueError: the model was refused, e.g. because there is no such model.
        """
        host = cls(spec, place, placed)
        await host._start()
        return host

    async def restart(self) -> None:
        await self.close()  # one that cannot be reached may still hold its GPU
        try:
            await self._start()
        except ValueError as error:  # refused, though the same was accepted once
            raise LearnerDied(f"the learner did not come back: {error}") from error

    async def add(self, spec: PolicySpec) -> None:
        await self._all(actor.add.remote(spec) for actor in self._started())

    async def remove(self, run: str) -> None:
        await self._all(actor.remove.remote(run) for actor in self._started())

    async def update(self, updates: Sequence[PolicyUpdate]) -> list[Metrics]:
        actors = self._started()
        shards = _split(updates, _assignments(updates, len(actors)))
        metrics = await self._all(actor.update.remote(shard) for actor, shard in zip(actors, shards, strict=True))
        return metrics[0]

    async def forward_backward(self, updates: Sequence[PolicyUpdate]) -> list[ForwardBackward]:
        return await self._divided(updates, lambda actor, shard: actor.forward_backward.remote(shard))

    async def forward(self, updates: Sequence[PolicyUpdate]) -> list[ForwardBackward]:
        return await self._divided(updates, lambda actor, shard: actor.forward.remote(shard))

    async def hold_gradients(self, run: str) -> None:
        await self._all(actor.hold_gradients.remote(run) for actor in self._started())

    async def restore_gradients(self, run: str) -> None:
        await self._all(actor.restore_gradients.remote(run) for actor in self._started())

    async def gradients_pending(self, run: str) -> bool:
        return await self._first(lambda actor: actor.gradients_pending.remote(run))

    async def optim_step(self, run: str, adam: AdamConfig) -> Metrics:
        return (await self._all(actor.optim_step.remote(run, adam) for actor in self._started()))[0]

    async def publish(self, run: str) -> Adapter:
        return await self._first(lambda actor: actor.publish.remote(run))

    async def score(self, run: str, sequences: Sequence[Sequence[int]], under: Under) -> list[list[float]]:
        whole = under == "teacher" and self._spec.teacher is not None
        if self._spec.learner.shard and not whole:  # who holds only a part of the model cannot score alone
            return (await self._all(actor.score.remote(run, sequences, under) for actor in self._started()))[0]
        if under == "policy" or isinstance(under, Adapter):  # a few sequences, for a check
            return await self._first(lambda actor: actor.score.remote(run, sequences, under))
        return await self._divided_scores(run, sequences, under)

    async def state(self, run: str) -> bytes:
        return await self._first(lambda actor: actor.state.remote(run))

    async def load_state(self, run: str, state: bytes) -> None:
        reference = ray.put(state)
        await self._all(actor.load_state.remote(run, reference) for actor in self._started())

    async def facts(self, run: str) -> Mapping[str, int]:
        return await self._first(lambda actor: actor.facts.remote(run))

    async def pid(self, rank: int = 0) -> int:
        """Return an actor's process id, on its node."""
        return (await self._all([self._started()[rank].pid.remote()]))[0]

    async def close(self) -> None:
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []

    async def _start(self) -> None:
        if self._placed is not None:
            await self._placed()
        places = [self._place(rank) for rank in range(self._spec.learner.learner_count)]
        self._actors = [_create(place) for place in places]
        try:
            meetings = await self._meetings()
            await self._all(
                actor.start.remote(place.threads, self._spec, meeting)
                for actor, place, meeting in zip(self._actors, places, meetings, strict=True)
            )
        except BaseException:  # also when the start is cancelled: nobody else knows of the actors yet
            await self.close()
            raise

    async def _meetings(self) -> list[Rendezvous | None]:
        world_size = len(self._actors)
        if world_size == 1:
            return [None]
        address: str = await self._first(lambda actor: actor.address.remote(self._stall_timeout))
        return [Rendezvous(address, rank, world_size) for rank in range(world_size)]

    def _started(self) -> list[Any]:
        """Return the actors. Another caller may have heard of their death first, and closed them."""
        if not self._actors:
            raise LearnerDied("the learner died, and has not been started again")
        return self._actors

    async def _divided(
        self,
        updates: Sequence[PolicyUpdate],
        ask: Callable[[Any, Sequence[PolicyUpdate]], Awaitable[list[ForwardBackward]]],
    ) -> list[ForwardBackward]:
        """Ask each learner for its share of the updates' rows; return the outcomes in the rows' order."""
        actors = self._started()
        assignments = _assignments(updates, len(actors))
        shards = _split(updates, assignments)
        outputs = await self._all(ask(actor, shard) for actor, shard in zip(actors, shards, strict=True))
        return _merge(outputs, assignments)

    async def _divided_scores(self, run: str, sequences: Sequence[Sequence[int]], under: Under) -> list[list[float]]:
        """Ask each learner for its share of the scores; return them in the sequences' order."""
        actors, by_length = self._started(), sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
        shares = [share for first in range(len(actors)) if (share := by_length[first :: len(actors)])]
        parts = await self._all(
            actor.score.remote(run, [sequences[i] for i in share], under)
            for actor, share in zip(actors, shares, strict=False)
        )
        scores = dict(zip(itertools.chain(*shares), itertools.chain(*parts), strict=True))
        return [scores[i] for i in range(len(sequences))]

    async def _first(self, ask: Callable[[Any], Awaitable[T]]) -> T:
        return (await self._all([ask(self._started()[0])]))[0]

    async def _all(self, references: Iterable[Awaitable[T]]) -> list[T]:
        """Return all answers; the death of one learner is the death of all, because the others wait for it."""
        answers = [asyncio.ensure_future(_answer(reference)) for reference in references]
        try:
            done, late = await asyncio.wait(answers, timeout=self._stall_timeout, return_when=asyncio.FIRST_EXCEPTION)
            if late and any(answer.exception() for answer in done):
                more, late = await asyncio.wait(late, timeout=GRACE_S)
                done |= more
        finally:
            for answer in answers:
                answer.cancel()
        errors = [error for answer in done if (error := answer.exception()) is not None]
        deaths = [error for error in errors if is_death(error)]
        if late or deaths:
            await self.close()
            first = (deaths or errors or [None])[0]
            raise LearnerDied(f"the learner died: {self._reason(first)}") from first
        for error in errors:
            raise cause(error) from error
        return [answer.result() for answer in answers]

    def _reason(self, error: BaseException | None) -> str:
        """Say what ended them: a death, or what one of them failed with while the others waited for it."""
        if error is None:
            return f"it said nothing for {self._stall_timeout:g} s"
        if is_death(error):
            return describe_death(error)
        failure = cause(error)
        return f"one of {self._spec.learner.learner_count} failed with {type(failure).__name__}: {first_line(failure)}"


def _create(place: ActorPlacement) -> Any:
    actor: Any = ray.remote(LearnerActor)
    environment = torch_environment(on_gpu=bool(place.gpus))
    return actor.options(runtime_env={"env_vars": environment}, **place.actor_options()).remote()


async def _answer(reference: Awaitable[T]) -> T:
    return await reference


def _assignments(updates: Sequence[PolicyUpdate], count: int) -> list[list[list[int]]]:
    """Return, by policy and learner, which of the policy's rows the learner gets."""
    return [split_indices(update.batch.rows, count) for update in updates]


def _split(updates: Sequence[PolicyUpdate], assignments: Sequence[list[list[int]]]) -> list[list[PolicyUpdate]]:
    """Return each learner's share of the updates. Divisors stay a whole step's, so that the parts add up."""

    def part(update: PolicyUpdate, indices: list[int]) -> PolicyUpdate:
        return replace(update, batch=replace(update.batch, rows=[update.batch.rows[i] for i in indices]))

    return [
        [part(update, indices) for update, indices in zip(updates, by_policy, strict=True)]
        for by_policy in zip(*assignments, strict=True)
    ]


def _merge(outputs: Sequence[list[ForwardBackward]], assignments: Sequence[list[list[int]]]) -> list[ForwardBackward]:
    """Put the learners' logprobs back into the order of the rows; metrics are the same at all of them."""
    merged: list[ForwardBackward] = []
    for of_learners, by_learner in zip(zip(*outputs, strict=True), assignments, strict=True):
        by_row = {
            index: logprobs
            for output, indices in zip(of_learners, by_learner, strict=True)
            for index, logprobs in zip(indices, output.logprobs, strict=True)
        }
        merged.append(ForwardBackward(of_learners[0].metrics, [by_row[i] for i in range(len(by_row))]))
    return merged
