"""The parts of a run whose learner and engines are a server's."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from lora.base.tokenizer import load_tokenizer
from rl.cluster.components import RunParts
from rl.config import RunConfig
from rl.remote.connection import Connection
from rl.remote.engine import RemoteEngine
from rl.remote.learner import RemoteLearner
from rl.remote.policies import RemotePolicies
from rl.types import Learner


@dataclass(slots=True, kw_only=True)
class RemoteParts(RunParts):
    """A server's learner and engines."""

    policies: RemotePolicies
    remote_engine: RemoteEngine

    @asynccontextmanager
    async def open_learner(self, config: RunConfig, run: str) -> AsyncGenerator[Learner]:
        learner = await RemoteLearner.start(config, run, self.policies.connection, self.policies, self.remote_engine)
        try:
            yield learner
        finally:
            await learner.close()


@asynccontextmanager
async def open_remote(config: RunConfig) -> AsyncGenerator[RunParts]:
    """Connect to the configuration's server. Raises ValueError if it cannot be used, LearnerDied if it is not there."""
    assert config.server is not None
    async with Connection.of(config.server) as connection, AsyncExitStack() as graders:
        policies = RemotePolicies(connection, config.model.name)
        engine = RemoteEngine(policies, load_tokenizer(config.model))
        yield RemoteParts(
            engine=engine, disjoint_devices=False, policies=policies, remote_engine=engine, _stack=graders
        )
