"""The server's parts together, as its routes use them."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora.base.tokenizer import load_tokenizer
from lora.config import LoraConfig
from lora.messages import single_line
from lora.types import Adapter
from rl.config import LearnerConfig
from rl.learner.policies.policy import PolicySpec
from rl.monitoring.dashboard.reporter import PageReporter
from rl.serve.backend import Backend, open_backend
from rl.serve.config import ServeConfig
from rl.serve.facts import ModelFacts, read_facts
from rl.serve.operations.curves import Curves
from rl.serve.operations.futures import Futures
from rl.serve.operations.handlers import Operations
from rl.serve.operations.liveness import ServedLiveness
from rl.serve.operations.meter import Meter
from rl.serve.operations.models import Models
from rl.serve.sampling.adapters import Snapshots
from rl.serve.sampling.draws import Draws
from rl.serve.sampling.samplers import Samplers
from rl.serve.storage.checkpoints import Checkpoints
from rl.serve.storage.database import database_url, open_database
from rl.serve.storage.registry import Registry
from rl.serve.storage.weights import open_store
from rl.serve.training.policies import Shelf
from rl.serve.training.trainer import Trainer, TrainerLimits
from rollout.types import Engine

log = logging.getLogger(__name__)
HOUSEKEEPING_S = 20.0
SESSION_DEAD_S = 3600.0
"""Silence after which a session's snapshots are deleted; its client beats every 10 s."""


@dataclass(slots=True)
class Service:
    """One server."""

    config: ServeConfig
    facts: ModelFacts
    registry: Registry
    checkpoints: Checkpoints
    trainer: Trainer
    models: Models
    samplers: Samplers
    operations: Operations
    meter: Meter
    liveness: ServedLiveness
    engine: Engine
    draws: Draws
    tokenizer: Any
    futures: Futures = field(default_factory=Futures)
    heartbeats: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    """When each user's session was heard of."""
    started: float = field(default_factory=time.monotonic)

    async def keep_house(self) -> None:
        """Write down usage, and delete what is over, now and then."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            try:
                await self.write_down()
            except Exception as error:  # a full disk, a database that is away: the next time may be better
                log.warning("usage could not be written down: %s", single_line(error, 300))
            limit = time.monotonic() - SESSION_DEAD_S
            for user, session_id in [key for key, heard in self.heartbeats.items() if heard < limit]:
                self.end_session(user, session_id)

    async def write_down(self) -> None:
        """Bring into the database what is counted in memory, and delete weights whose time is over."""
        counts = self.meter.uncounted()
        try:
            await asyncio.to_thread(self.registry.count_tokens, counts)
        except BaseException:
            self.meter.count_again(counts)
            raise
        used = {model.id: model.run.last_request for model in self.models.all()}
        await asyncio.to_thread(self.registry.touch, used)
        await asyncio.to_thread(self.checkpoints.delete_expired)
        await asyncio.to_thread(self.checkpoints.delete_leftovers)

    def end_session(self, user: str, session_id: str) -> None:
        """Let go of what a session alone had."""
        self.heartbeats.pop((user, session_id), None)
        self.samplers.drop_session(session_id)


@contextlib.asynccontextmanager
async def open_service(config: ServeConfig, out: Path) -> AsyncGenerator[Service]:
    """Open a server's parts, ready to work; all of them are gone when the block ends, what is saved stays.

    Raises:
        ValueError: the model, the database or the directory cannot be used.
    """
    facts = await asyncio.to_thread(read_facts, config)
    database = open_database(database_url(config, out))
    registry = Registry(database)
    checkpoints = Checkpoints(registry, open_store(config.weights or str(out / "weights")))
    meter = Meter(config.limits.tokens_per_minute)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(database.dispose)
        checks: list[ServedLiveness] = []

        async def admit(engine: Engine) -> None:
            for liveness in checks:
                await liveness.check_restarted(engine)

        backend = await stack.enter_async_context(open_backend(config, admit))
        limits = TrainerLimits(config.tokens_per_part, config.resident_policies, config.kept_state_mib * 2**20)
        trainer = Trainer(backend.host, Shelf(out / "shelf"), limits)
        await stack.enter_async_context(background(trainer.run()))
        models = Models(
            trainer, registry, checkpoints, facts, patience_s=config.patience, most_of_user=config.limits.models
        )
        base = await _base_adapter(trainer)
        draws = open_draws(config, backend)
        samplers = Samplers(draws, registry, checkpoints, facts, Snapshots(out / "snapshots"), base)
        liveness = ServedLiveness(backend.engine, trainer, config.liveness)
        checks.append(liveness)
        curves = Curves(out / "runs", PageReporter() if config.runtime == "ray" else None)
        stack.callback(curves.close)
        models.on_end += [liveness.forget, meter.forget, curves.on_end]
        operations = Operations(models, samplers, trainer, checkpoints, facts, meter, liveness, curves)
        heard = dict.fromkeys(await asyncio.to_thread(samplers.take_up), time.monotonic())
        service = Service(
            config, facts, registry, checkpoints, trainer, models, samplers, operations, meter, liveness,
            backend.engine, draws, load_tokenizer(config.model), heartbeats=heard,
        )  # fmt: skip
        await stack.enter_async_context(background(service.keep_house()))
        stack.push_async_callback(service.futures.close)
        stack.push_async_callback(service.write_down)  # also where the server is interrupted
        yield service


def open_draws(config: ServeConfig, backend: Backend) -> Draws:
    """Return the way to the engines. vLLM puts what it is given together by itself, and the torch engine does not."""
    most = config.rollout.max_concurrent
    if backend.batches_calls:
        return Draws(backend.engine, calls=backend.workers * most)
    return Draws(backend.engine, calls=backend.workers, most_shared=most)


async def _base_adapter(trainer: Trainer) -> Adapter:
    """Return an adapter that adds nothing, with which the base model is sampled."""
    policy = await trainer.create(PolicySpec("base", LoraConfig(rank=1), LearnerConfig(), 1.0, 0))
    adapter = await trainer.publish(policy)
    await trainer.remove(policy)
    return adapter


@contextlib.asynccontextmanager
async def background(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Do the work beside the block, and end it with the block."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
