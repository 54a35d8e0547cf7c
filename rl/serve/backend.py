"""The learner and the engines that a server's clients share, opened where they belong."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from rl.cluster.components import open_both
from rl.cluster.connect import connect
from rl.cluster.device import local_device
from rl.cluster.interrupts import in_daemon
from rl.cluster.learner import memory_share, open_learner_host
from rl.cluster.reservation import reserve
from rl.cluster.workers import open_workers
from rl.learner.memory.plan import Budget
from rl.learner.policy_host import LearnerHost, LearnerSpec
from rl.learner.thread_host import ThreadHost
from rl.serve.config import ServeConfig
from rollout.create import create_engine
from rollout.pool.engine_pool import Admit
from rollout.threaded_engine import ThreadedEngine
from rollout.types import Engine


@dataclass(frozen=True, slots=True)
class Backend:
    """A learner and the engines."""

    host: LearnerHost
    engine: Engine
    workers: int = 1
    batches_calls: bool = False
    """True if an engine works on several calls at once."""


@asynccontextmanager
async def open_backend(config: ServeConfig, admit: Admit) -> AsyncGenerator[Backend]:
    """Open a learner without policies and the engines; all is gone when the block ends.

    An engine that was started in a dead one's place serves once `admit` has let it in.

    Raises:
        ValueError: the model cannot be served.
    """
    opened = _open_on_ray(config, admit) if config.runtime == "ray" else _open_here(config)
    async with opened as backend:
        yield backend


@asynccontextmanager
async def _open_on_ray(config: ServeConfig, admit: Admit) -> AsyncGenerator[Backend]:
    run, adapter = config.run_config(), config.largest_adapter
    async with AsyncExitStack() as stack:
        await in_daemon(connect)
        reservation = await stack.enter_async_context(reserve(run, learner=True))
        run = reservation.config
        budget = Budget(None, memory_share(reservation), config.resident_policies)
        host = open_learner_host(run, adapter, reservation, budget, mix_policies=False)
        engine = open_workers(run, reservation, adapter, admit)
        opened = await open_both(stack, host, engine, in_turn=reservation.request.shares.crowded)
        yield Backend(*opened, reservation.request.workers, run.rollout.engine == "vllm")


@asynccontextmanager
async def _open_here(config: ServeConfig) -> AsyncGenerator[Backend]:
    run, adapter = config.run_config(), config.largest_adapter
    budget = Budget(None, 0.5, config.resident_policies)
    spec = LearnerSpec(config.model, local_device(run), config.learner, adapter, budget, mix_policies=False)
    host = await asyncio.to_thread(ThreadHost, spec)
    try:
        engine = await ThreadedEngine.start(
            lambda: create_engine(run.model, adapter, run.rollout, seed=run.seed, device=spec.device)
        )
        try:
            yield Backend(host, engine)
        finally:
            await engine.close()
    finally:
        await host.close()
