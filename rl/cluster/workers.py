"""The rollout workers, opened where they belong: in actors on the cluster, or as one engine in this process."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from lora.config import LoraConfig
from rl.algorithm.sampling.prefetch import steps_ahead
from rl.cluster.connect import connect
from rl.cluster.device import local_device
from rl.cluster.interrupts import in_daemon
from rl.cluster.reservation import Reservation, reserve
from rl.config import RunConfig, replaced
from rollout.create import create_engine
from rollout.pool.engine_pool import Admit, EnginePool
from rollout.ray.engine import AdapterStore, RayEngine
from rollout.types import Engine


@asynccontextmanager
async def open_engine(config: RunConfig, lora: LoraConfig) -> AsyncGenerator[Engine]:
    """Engines alone, without a learner; `lora` is the shape of the adapters they serve."""
    async with AsyncExitStack() as stack:
        reservation: Reservation | None = None
        if config.on_ray:
            await in_daemon(connect)
            reservation = await stack.enter_async_context(reserve(config, learner=False))
            config = reservation.config
        yield await stack.enter_async_context(open_workers(config, reservation, lora))


@asynccontextmanager
async def open_workers(
    config: RunConfig, reservation: Reservation | None, lora: LoraConfig | None = None, admit: Admit | None = None
) -> AsyncGenerator[Engine]:
    """The engines, in actors or here. `lora` is the adapters' shape if it is not the configuration's.

    A worker that was started in a dead one's place serves once `admit` has let it in.
    """
    lora = lora or config.lora
    if reservation is None:
        device = local_device(config)
        engine = create_engine(config.model, lora, config.rollout, seed=config.seed, device=device)
    else:
        engine = await _pool(config, reservation, lora, admit)
    try:
        yield engine
    finally:
        await engine.close()


async def _pool(config: RunConfig, reservation: Reservation, lora: LoraConfig, admit: Admit | None) -> EnginePool:
    versions = 1 + steps_ahead(config, disjoint_devices=reservation.request.shares.exclusive)
    rollout = replaced(
        config.rollout,
        gpu_memory_fraction=reservation.request.shares.memory_fraction,
        adapters_in_flight=max(config.rollout.adapters_in_flight, versions),
    )
    store = AdapterStore()

    async def start(index: int) -> RayEngine:
        await reservation.wait_for_worker(index)
        place = reservation.worker(index)
        return await RayEngine.start(config.model, lora, rollout, store, seed=config.seed, place=place, index=index)

    indices = range(config.rollout.worker_count)
    if reservation.request.shares.crowded:  # while vLLM starts, nobody else may allocate on its GPU
        engines = [await start(index) for index in indices]
    else:
        engines = await asyncio.gather(*map(start, indices))
    return EnginePool(engines, start, admit, rollout.max_restarts, max_concurrent=rollout.max_concurrent)
