"""The check that engines sample clients' policies as the learner has them: not the base, nor an older adapter."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, cast

from lora.types import Adapter
from rl.algorithm.liveness import PolicyChecker, Reference, StalePolicyError
from rl.config import LivenessConfig
from rl.serve.errors import ServerFault
from rl.serve.operations.models import Model
from rl.serve.training.trainer import Trainer
from rl.types import LearnerDied, Under
from rollout.types import Engine, EngineDied

log = logging.getLogger(__name__)
ALWAYS = 2
"""First snapshots of a model that are all checked."""


class ServedLiveness:
    """Checks snapshots in the background. After a fault nothing more is sampled: it would be trained on."""

    def __init__(self, engine: Engine, trainer: Trainer, config: LivenessConfig) -> None:
        self._engine = engine
        self._trainer = trainer
        self._config = config
        self._checkers: dict[str, PolicyChecker] = {}
        self._previous: dict[str, Adapter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.fault: str | None = None
        """The engines' fault, if there is one."""
        self.checks = 0

    def require_sound(self) -> None:
        """Raises ServerFault if an engine was seen to sample from another policy."""
        if self.fault is not None:
            raise ServerFault(f"sampling is stopped, because its logprobs were not the policy's: {self.fault}")

    def on_snapshot(self, model: Model, adapter: Adapter) -> None:
        """Check this snapshot, if it is its turn and there is text of the model's to check it with."""
        due = adapter.version <= ALWAYS or adapter.version % self._config.every == 0
        if model.seen and due:
            task = asyncio.get_running_loop().create_task(self._check(model, adapter, list(model.seen)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._previous[model.id] = adapter

    def forget(self, model: Model) -> None:
        """Let go of what is known of a model that is gone."""
        self._checkers.pop(model.id, None)
        self._previous.pop(model.id, None)

    async def check_restarted(self, engine: Engine) -> None:
        """Raises StalePolicyError if an engine that was started again does not serve what it is given."""
        for checker in list(self._checkers.values()):
            await checker.check_restarted(engine)

    async def _check(self, model: Model, adapter: Adapter, sequences: Sequence[Sequence[int]]) -> None:
        checker = self._checkers.setdefault(model.id, PolicyChecker(self._config.tolerance))
        previous = self._previous.get(model.id)
        try:
            learner = cast("Any", _Learner(self._trainer, model))
            reference = await Reference.measure(learner, adapter, previous if previous != adapter else None, sequences)
            await checker.check(reference, self._engine)
            self.checks += 1
        except StalePolicyError as error:
            self.fault = str(error)
            log.error("%s", error)
        except (ServerFault, LearnerDied, EngineDied, ValueError) as error:
            log.warning("a liveness check was left out: %s", error)


class _Learner:
    """The learner of one model, as far as the check asks it."""

    def __init__(self, trainer: Trainer, model: Model) -> None:
        self._trainer = trainer
        self._model = model

    async def score(self, sequences: Sequence[Sequence[int]], *, under: Under) -> list[list[float]]:
        return await self._trainer.score(self._model.policy, sequences, under)
