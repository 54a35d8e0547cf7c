"""Where the parts of a run live: as actors on a Ray cluster, or all in this process."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import ray

from lora.config import LoraConfig
from rewards.pool import GraderPool
from rewards.types import Problem
from rl.config import RunConfig
from rl.learner import TorchLearner
from rl.liveness import Watchman
from rl.placement import GpuShares, share_gpus
from rl.remote_learner import RayLearner
from rl.train import Parts
from rl.types import Learner
from rollout.actor import AdapterStore, RayEngine
from rollout.create import create_engine
from rollout.pool import Admit, EnginePool
from rollout.types import Engine

OBJECT_STORE_BYTES = 512 * 2**20
"""For a cluster of our own on this machine: adapters and batches are small."""


@asynccontextmanager
async def open_parts(config: RunConfig, run: str, encode: Callable[[Problem], list[int]]) -> AsyncGenerator[Parts]:
    """Everything a run is made of, ready to work; all of it is gone when the block ends, however it ends."""
    async with AsyncExitStack() as stack:
        grader = await stack.enter_async_context(open_grader(config))
        if config.runtime == "ray":
            await asyncio.to_thread(connect)
        watchman = Watchman(config.liveness.tolerance)
        learner, engine = await _both(
            stack.enter_async_context(open_learner(config, run)),
            stack.enter_async_context(open_engine(config, admit=watchman.admit)),
        )
        yield Parts(learner, engine, grader, encode, watchman)


@asynccontextmanager
async def open_grader(config: RunConfig) -> AsyncGenerator[GraderPool]:
    """Grading processes beside this one."""
    grader = GraderPool(config.reward)
    try:
        yield grader
    finally:
        await grader.close()


@asynccontextmanager
async def open_learner(config: RunConfig, run: str) -> AsyncGenerator[Learner]:
    """The learner, in an actor or here."""
    arguments: dict[str, Any] = {
        "run": run,
        "model": config.model,
        "lora": config.lora,
        "config": config.learner,
        "temperature": config.sampling.temperature,
        "seed": config.seed,
    }
    if config.runtime == "local":
        learner: Learner = TorchLearner(**arguments, device=local_device(config))
    else:
        connect()
        share = gpu_shares(config).learner
        arguments["device"] = "cuda" if share else "cpu"
        learner = await RayLearner.start(
            arguments, threads=threads_per_worker(1), gpus=share, stall_timeout=config.learner.stall_timeout
        )
    try:
        yield learner
    finally:
        await learner.close()


@asynccontextmanager
async def open_engine(
    config: RunConfig, lora: LoraConfig | None = None, admit: Admit | None = None
) -> AsyncGenerator[Engine]:
    """The engines, in actors or here. `lora` is the adapters' shape if it is not the configuration's.

    A worker that was started in a dead one's place serves once `admit` has let it in.
    """
    lora = lora or config.lora
    if config.runtime == "local":
        device = local_device(config)
        engine = create_engine(config.model, lora, config.rollout, seed=config.seed, device=device)
    else:
        connect()
        engine = await _pool(config, lora, admit)
    try:
        yield engine
    finally:
        await engine.close()


def connect() -> None:
    """Join the cluster that `RAY_ADDRESS` or a head on this machine offers, else start one for this run alone."""
    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "rankone"}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
    else:
        os.environ.setdefault("RAY_worker_niceness", "0")  # the run is what the user is waiting for
        ray.init("local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)


def disconnect() -> None:
    """Leave the cluster; one that `connect` started ends with it."""
    if ray.is_initialized():
        ray.shutdown()


def gpu_shares(config: RunConfig) -> GpuShares:
    """How the actors of this run share this cluster's GPUs. Raises ValueError if they can never be placed."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    return share_gpus(gpus, config.rollout, learner_on_gpu=config.learner.device != "cpu")


def threads_per_worker(workers: int) -> int:
    """Cores for each of `workers` that compute at the same time.

    Learner and engines take turns, and their threads sleep while they wait, so each side gets every core.
    """
    return max(1, int(ray.cluster_resources().get("CPU", 1)) // workers)


def local_device(config: RunConfig) -> str:
    """The device when all is in this process."""
    import torch

    if config.learner.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return config.learner.device


async def _pool(config: RunConfig, lora: LoraConfig, admit: Admit | None) -> EnginePool:
    shares = gpu_shares(config)
    rollout = config.rollout.model_copy(update={"gpu_memory_fraction": shares.memory_fraction})
    threads = threads_per_worker(config.rollout.num_workers)
    store = AdapterStore()

    async def start() -> RayEngine:
        return await RayEngine.start(
            config.model, lora, rollout, store, seed=config.seed, threads=threads, gpus=shares.worker
        )

    engines = await asyncio.gather(*(start() for _ in range(config.rollout.num_workers)))
    return EnginePool(engines, start, admit, config.rollout.max_restarts)


async def _both(learner: Awaitable[Learner], engine: Awaitable[Engine]) -> tuple[Learner, Engine]:
    """Start both at once, and wait for both, so that a failure of one does not leave the other half started."""
    started = await asyncio.gather(learner, engine, return_exceptions=True)
    for result in started:
        if isinstance(result, BaseException):
            raise result
    return cast("tuple[Learner, Engine]", tuple(started))
