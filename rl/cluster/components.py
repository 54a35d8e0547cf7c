"""Where the parts of a run live: as actors on a Ray cluster, or all in this process."""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import ray

from lora.config import LoraConfig
from rewards.pool import GraderPool
from rewards.types import Problem
from rl.algorithm.liveness import PolicyChecker
from rl.algorithm.prefetch import steps_ahead
from rl.cluster.connect import join, join_here, start
from rl.cluster.interrupts import in_daemon
from rl.cluster.ray_learner import RayLearner
from rl.cluster.reservation import Reservation, reserve
from rl.config import RunConfig, replaced
from rl.learner.memory import Budget
from rl.learner.torch_learner import TorchLearner
from rl.shadowing import raise_if_shadowed
from rl.train import Components
from rl.types import Learner
from rollout.actor import AdapterStore, RayEngine
from rollout.create import create_engine
from rollout.pool import Admit, EnginePool
from rollout.types import Engine

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_components(
    config: RunConfig, run: str, encode: Callable[[Problem], list[int]], longest_row: int | None = None
) -> AsyncGenerator[Components]:
    """Everything a run is made of, ready to work; all of it is gone when the block ends, however it ends.

    The learner makes room for rows of `longest_row` inputs; without it, for as many as the model may have.
    """
    async with AsyncExitStack() as stack:
        grader = await stack.enter_async_context(open_grader(config))
        held: Reservation | None = None
        if config.on_ray:
            await in_daemon(connect)
            held = await stack.enter_async_context(reserve(config, learner=True))
        watchman = PolicyChecker(config.liveness.tolerance)
        own_devices = held is not None and held.request.shares.exclusive
        learner, engine = await _both(
            stack.enter_async_context(open_learner(config, run, held, Budget(longest_row, memory_share(held)))),
            stack.enter_async_context(open_workers(config, held, admit=watchman.check_restarted)),
        )
        yield Components(learner, engine, grader, encode, watchman, own_devices)


@asynccontextmanager
async def open_grader(config: RunConfig) -> AsyncGenerator[GraderPool]:
    """Grading processes beside this one."""
    grader = GraderPool(config.reward)
    try:
        yield grader
    finally:
        await grader.close()


@asynccontextmanager
async def open_learner(
    config: RunConfig, run: str, held: Reservation | None, budget: Budget
) -> AsyncGenerator[Learner]:
    """The learner, in an actor or here."""
    arguments: dict[str, Any] = {
        "run": run,
        "model": config.model,
        "lora": config.lora,
        "config": config.learner,
        "temperature": config.sampling.temperature,
        "seed": config.seed,
        "budget": budget,
    }
    if held is None:
        learner: Learner = TorchLearner(**arguments, device=local_device(config))
    else:
        arguments["device"] = "cuda" if held.request.shares.learner else "cpu"
        learner = await RayLearner.start(
            arguments,
            held.learner,
            stall_timeout=config.learner.stall_timeout,
            count=config.learner.num_learners,
            shard=config.learner.shard,
        )
    try:
        yield learner
    finally:
        await learner.close()


def say_checkpointing(config: RunConfig, facts: Mapping[str, int]) -> None:
    """Log what "auto" has come to, if it is on: a third of the update's time goes into it."""
    if config.learner.gradient_checkpointing == "auto" and facts["gradient_checkpointing"]:
        log.info(
            "gradient checkpointing is on: the longest row would not fit the learner's memory otherwise "
            "(`rankone plan` counts it; learner.gradient_checkpointing = false turns it off)"
        )


@asynccontextmanager
async def open_engine(config: RunConfig, lora: LoraConfig) -> AsyncGenerator[Engine]:
    """Engines alone, without a learner; `lora` is the shape of the adapters they serve."""
    async with AsyncExitStack() as stack:
        held: Reservation | None = None
        if config.on_ray:
            await in_daemon(connect)
            held = await stack.enter_async_context(reserve(config, learner=False))
        yield await stack.enter_async_context(open_workers(config, held, lora))


@asynccontextmanager
async def open_workers(
    config: RunConfig, held: Reservation | None, lora: LoraConfig | None = None, admit: Admit | None = None
) -> AsyncGenerator[Engine]:
    """The engines, in actors or here. `lora` is the adapters' shape if it is not the configuration's.

    A worker that was started in a dead one's place serves once `admit` has let it in.
    """
    lora = lora or config.lora
    if held is None:
        device = local_device(config)
        engine = create_engine(config.model, lora, config.rollout, seed=config.seed, device=device)
    else:
        engine = await _pool(config, held, lora, admit)
    try:
        yield engine
    finally:
        await engine.close()


def connect() -> None:
    """Join the cluster that `RAY_ADDRESS` names, else the one that `rankone up` made this machine a node of.

    Where there is none, or `RAY_ADDRESS` is "local", start one for this run alone.

    Raises:
        ValueError: nothing answers at `RAY_ADDRESS`, it is another version, or a file here hides a package of ours.
        ClusterStartError: Ray would not start.
    """
    if ray.is_initialized():
        return
    raise_if_shadowed()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "rankone"}
    address = os.environ.get("RAY_ADDRESS", "")
    if address not in ("", "local"):
        join(address, **quiet)
    elif address == "local" or not join_here(**quiet):
        start(**quiet)


def disconnect() -> None:
    """Leave the cluster; one that `connect` started ends with it."""
    if ray.is_initialized():
        ray.shutdown()


def memory_share(held: Reservation | None) -> float:
    """The learner's share of its device's memory, the rollout workers' engines taking theirs."""
    if held is None:
        return 0.5  # the engine of this process has a model of its own
    shares = held.request.shares
    return 1 - held.request.workers * shares.memory_fraction if 0 < shares.learner < 1 else 1.0


def local_device(config: RunConfig) -> str:
    """The device when all is in this process. Raises ValueError if it is not there."""
    import torch

    there = torch.cuda.is_available()
    if config.learner.device == "cuda" and not there:
        raise ValueError(
            'learner.device = "cuda", and this process has no GPU that torch can use; set "auto" or "cpu", or '
            'runtime = "ray" to use a cluster\'s'
        )
    if config.learner.device == "auto":
        return "cuda" if there else "cpu"
    return config.learner.device


async def _pool(config: RunConfig, held: Reservation, lora: LoraConfig, admit: Admit | None) -> EnginePool:
    versions = 1 + steps_ahead(config, own_devices=held.request.shares.exclusive)
    rollout = replaced(
        config.rollout,
        gpu_memory_fraction=held.request.shares.memory_fraction,
        adapters_in_flight=max(config.rollout.adapters_in_flight, versions),
    )
    store = AdapterStore()

    async def start(index: int) -> RayEngine:
        place = held.worker(index)
        return await RayEngine.start(config.model, lora, rollout, store, seed=config.seed, place=place, index=index)

    engines = await asyncio.gather(*(start(index) for index in range(config.rollout.num_workers)))
    return EnginePool(engines, start, admit, config.rollout.max_restarts)


async def _both(learner: Awaitable[Learner], engine: Awaitable[Engine]) -> tuple[Learner, Engine]:
    """Start both at once, and wait for both, so that a failure of one does not leave the other half started."""
    started = await asyncio.gather(learner, engine, return_exceptions=True)
    for result in started:
        if isinstance(result, BaseException):
            raise result
    return cast("tuple[Learner, Engine]", tuple(started))
