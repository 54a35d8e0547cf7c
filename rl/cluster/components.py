"""Everything that a run is made of, ready to work; several runs may share a base model, its engines and a learner."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from lora.config import LoraConfig
from rewards.config import RewardConfig, RewardTerm
from rewards.grading.panel import Scorer
from rewards.grading.pool import GraderPool
from rewards.grading.routed import RoutedGrader
from rewards.types import Grader, Problem
from rl.algorithm.liveness import PolicyChecker
from rl.algorithm.sampling.prefetch import steps_ahead
from rl.cluster.connect import connect
from rl.cluster.interrupts import in_daemon
from rl.cluster.learner import memory_share, open_learner_host, policy_spec
from rl.cluster.reservation import Reservation, reserve
from rl.cluster.reward_models import RewardModels, reward_models_of
from rl.cluster.workers import open_workers
from rl.config import RunConfig, replaced
from rl.episodes.open import SharedEnvironments, sampler_of
from rl.learner.joint_updates import JointUpdates
from rl.learner.memory.plan import Budget
from rl.learner.policy_host import LearnerHost
from rl.learner.reward_model import open_pool
from rl.train import Components
from rl.types import Learner
from rollout.types import Engine

OF_ONE_POLICY = {
    "lr", "lr_schedule", "lr_warmup_steps", "lr_floor", "beta1", "beta2", "eps", "max_grad_norm",
    "objective", "objective_function", "max_ratio", "icepop_low", "icepop_high", "clip_low", "clip_high",
    "gspo_clip_low", "gspo_clip_high", "advantage", "advantage_k", "advantage_scale", "aggregation", "truncated",
    "overlong_buffer", "kl_coef", "kl_reference", "kl_in", "kl_estimator", "entropy_coef", "minibatches", "epochs",
    "tokens_per_row", "router_replay",
}  # fmt: skip
"""Settings of `[learner]` in which policies on one base model may differ."""


def shared_settings(config: RunConfig) -> str:
    """Return the settings that runs must have in common to share a base model and its engines."""
    learner = config.learner.model_dump(exclude=OF_ONE_POLICY)
    teacher = config.teacher if config.teacher.own_model(config.model) else None
    return repr((config.on_ray, config.model, config.rollout, config.placement, sorted(learner.items()), teacher))


@dataclass(slots=True, kw_only=True)
class RunParts:
    """A learner and an engine from which runs take their parts."""

    engine: Engine | None
    """None for runs of which no policy answers anything."""
    disjoint_devices: bool
    policy_checkers: list[PolicyChecker] = field(default_factory=list[PolicyChecker])
    reward_model: Callable[[RewardTerm], Scorer] | None = None
    """Makes a reward model that is not in this process."""
    _graders: dict[str, GraderPool] = field(default_factory=dict[str, GraderPool])
    _environments: SharedEnvironments = field(default_factory=SharedEnvironments)
    """Runs and sources with the same environment share the processes that it lives in."""
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def __post_init__(self) -> None:
        """Have them closed with the rest."""
        self._stack.push_async_callback(self._environments.close)

    @asynccontextmanager
    async def open(
        self, config: RunConfig, run: str, encode: Callable[[Problem], list[int]]
    ) -> AsyncGenerator[Components]:
        """Open one run's parts; `run` must be no other's name.

        Raises:
            ValueError: the model lacks a layer that the run adapts.
        """
        assert self.engine is not None
        grader = await self._grader(config)
        sampler = sampler_of(config, self.engine, self._environments)
        checker = PolicyChecker(config.liveness.tolerance)
        async with self.open_learner(config, run) as learner:
            self.policy_checkers.append(checker)
            try:
                yield Components(learner, self.engine, grader, encode, checker, self.disjoint_devices, sampler)
            finally:
                self.policy_checkers.remove(checker)

    def open_learner(self, config: RunConfig, run: str) -> AbstractAsyncContextManager[Learner]:
        """Open one run's learner alone. Raises as `open` does."""
        raise NotImplementedError

    async def _grader(self, config: RunConfig) -> Grader:
        """Runs and sources with the same reward share the processes that grade."""
        for reward in config.rewards:
            if repr(reward) not in self._graders:
                opening = open_pool_of(reward, self.reward_model)
                self._graders[repr(reward)] = await self._stack.enter_async_context(opening)
        return grader_of(config, self._graders)


@dataclass(slots=True, kw_only=True)
class SharedComponents(RunParts):
    """A learner and an engine of several runs' own."""

    joint_updates: JointUpdates

    @asynccontextmanager
    async def open_learner(self, config: RunConfig, run: str) -> AsyncGenerator[Learner]:
        learner = await self.joint_updates.register(policy_spec(config, run))
        try:
            yield learner
        finally:
            await learner.close()


@asynccontextmanager
async def open_components(
    config: RunConfig, run: str, encode: Callable[[Problem], list[int]], longest_row: int | None = None
) -> AsyncGenerator[Components]:
    """Open all that one run is made of, ready to work; it is gone when the block ends, however it ends.

    The learner makes room for rows of `longest_row` inputs; without it, for as many as the model may have.
    """
    async with open_shared_components([config], 1, longest_row) as shared, shared.open(config, run, encode) as parts:
        yield parts


@asynccontextmanager
async def open_shared_components(
    configs: Sequence[RunConfig], at_once: int, longest_row: int | None = None, *, workers: bool = True
) -> AsyncGenerator[SharedComponents]:
    """Open parts of runs that agree on `shared_settings`, `at_once` of them at a time; all is gone when the block ends.

    The learner makes room for rows of `longest_row` inputs; without it, for as many as the model may have. Without
    `workers` there is no engine.
    """
    assert len({shared_settings(config) for config in configs}) == 1
    first = configs[0]
    checkers: list[PolicyChecker] = []

    async def admit(engine: Engine) -> None:
        for checker in list(checkers):
            await checker.check_restarted(engine)

    async with AsyncExitStack() as stack:
        reservation: Reservation | None = None
        models = reward_models_of(configs) if workers else []
        if first.on_ray:
            await in_daemon(connect)
            reserving = reserve(first, learner=True, workers=workers, reward_models=models)
            reservation = await stack.enter_async_context(reserving)
            first = reservation.config
        disjoint_devices = reservation is not None and reservation.request.shares.exclusive
        adapter = largest_adapter(configs)
        budget = Budget(longest_row, memory_share(reservation) if workers else 1.0, at_once)
        learner_host = open_learner_host(first, adapter, reservation, budget)
        if workers:
            engines = open_workers(
                with_room([first, *configs[1:]], at_once, disjoint_devices), reservation, adapter, admit
            )
            in_turn = reservation is not None and reservation.request.shares.crowded
            host, engine = await open_both(stack, learner_host, engines, in_turn=in_turn)
        else:
            host, engine = await stack.enter_async_context(learner_host), None
        joint_updates = JointUpdates(host)
        stack.push_async_callback(joint_updates.close)
        reward_model = _open_reward_models(stack, reservation, models)
        graders = await stack.enter_async_context(AsyncExitStack())
        yield SharedComponents(
            engine=engine, joint_updates=joint_updates, disjoint_devices=disjoint_devices, policy_checkers=checkers,
            reward_model=reward_model, _stack=graders,
        )  # fmt: skip


@asynccontextmanager
async def open_answering(config: RunConfig, lora: LoraConfig) -> AsyncGenerator[tuple[Grader, Engine]]:
    """Open what measures policies without training one; `lora` is the shape of their adapters."""
    async with AsyncExitStack() as stack:
        reservation: Reservation | None = None
        models = reward_models_of([config])
        if config.on_ray:
            await in_daemon(connect)
            reservation = await stack.enter_async_context(reserve(config, learner=False, reward_models=models))
            config = reservation.config
        reward_model = _open_reward_models(stack, reservation, models)
        grader = await stack.enter_async_context(open_grader(config, reward_model))
        yield grader, await stack.enter_async_context(open_workers(config, reservation, lora))


def _open_reward_models(
    stack: AsyncExitStack, reservation: Reservation | None, terms: Sequence[RewardTerm]
) -> RewardModels | None:
    """Return what makes reward models on the cluster; without one they are in this process."""
    if reservation is None or not terms:
        return None
    models = RewardModels(reservation, terms)
    stack.callback(models.end)
    return models


@asynccontextmanager
async def open_grader(
    config: RunConfig, reward_model: Callable[[RewardTerm], Scorer] | None = None
) -> AsyncGenerator[Grader]:
    """Open grading processes beside this one, for every reward of the run; the second is as `open_pool_of` has it."""
    async with AsyncExitStack() as stack:
        pools = {
            repr(reward): await stack.enter_async_context(open_pool_of(reward, reward_model))
            for reward in config.rewards
        }
        yield grader_of(config, pools)


@asynccontextmanager
async def open_pool_of(
    reward: RewardConfig, reward_model: Callable[[RewardTerm], Scorer] | None = None
) -> AsyncGenerator[GraderPool]:
    """Open the grading processes of one reward, and what makes its reward models if they are not in this process."""
    pool = await asyncio.to_thread(open_pool, reward, reward_model)
    try:
        yield pool
    finally:
        await pool.close()


def grader_of(config: RunConfig, pools: Mapping[str, GraderPool]) -> Grader:
    """Return one grader of all the run's problems; `pools` are by the representation of their reward."""
    if not config.sources:
        return pools[repr(config.reward)]
    by_source = {source.key: pools[repr(config.reward_of(source.key))] for source in config.sources}
    return RoutedGrader(by_source | ({"": pools[repr(config.reward)]} if repr(config.reward) in pools else {}))


def largest_adapter(configs: Sequence[RunConfig]) -> LoraConfig:
    """The adapter of the highest rank, which is what an engine must have room for; of the head too, if any is."""
    highest = max((config.lora for config in configs), key=lambda lora: lora.rank)
    return replaced(highest, lm_head=any(config.lora.lm_head for config in configs))


def with_room(configs: Sequence[RunConfig], at_once: int, disjoint_devices: bool) -> RunConfig:
    """Return the first of them, with engines for all versions of all policies that are in flight together.

    They return experts if a policy replays them.
    """
    versions = 1 + max(steps_ahead(config, disjoint_devices=disjoint_devices) for config in configs)
    room = max(at_once * versions, configs[0].rollout.adapters_in_flight)
    routed = any(config.learner.router_replay or config.rollout.return_routed_experts for config in configs)
    return replaced(configs[0], rollout={"adapters_in_flight": room, "return_routed_experts": routed})


async def open_both(
    stack: AsyncExitStack,
    host: AbstractAsyncContextManager[LearnerHost],
    engine: AbstractAsyncContextManager[Engine],
    *,
    in_turn: bool,
) -> tuple[LearnerHost, Engine]:
    """Open both at once, and wait for both, so that a failure of one does not leave the other half started.

    They are opened `in_turn` where they share a GPU: while vLLM starts, it takes whatever another process allocates
    there for its own, and has less left for keys and values, or nothing.
    """
    if in_turn:
        opened = await stack.enter_async_context(host)
        return opened, await stack.enter_async_context(engine)
    opening = stack.enter_async_context(host), stack.enter_async_context(engine)
    results = await asyncio.gather(*opening, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return cast("Any", tuple(results))
