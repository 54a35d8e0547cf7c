"""A learner in a Ray actor, behind a handle that is a `Learner` itself."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import ray
from ray.exceptions import RayTaskError

from lora.types import Adapter
from rl.types import Learner, TrainBatch


class LearnerActor:
    """What runs inside the actor. It loads the model in `start`, so that a refusal reaches the caller whole."""

    async def start(self, threads: int, arguments: dict[str, Any]) -> None:
        import torch

        from rl.learner import TorchLearner

        torch.set_num_threads(threads)
        self._learner = TorchLearner(**arguments)

    async def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        return await getattr(self._learner, method)(*arguments, **options)


class RayLearner(Learner):
    """A learner as its user sees it."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    @classmethod
    async def start(cls, arguments: dict[str, Any], *, threads: int, gpus: float) -> Self:
        """Start an actor with a `TorchLearner` of these arguments in it.

        Raises:
            ValueError: the learner refused its arguments, e.g. there is no such model.
        """
        actor: Any = ray.remote(LearnerActor)
        resources = {"num_gpus": gpus} if gpus else {"num_cpus": 0.1}
        environment = {"OMP_WAIT_POLICY": "passive", "TOKENIZERS_PARALLELISM": "false"}
        handle = actor.options(runtime_env={"env_vars": environment}, **resources).remote()
        learner = cls(handle)
        await learner._unwrap(handle.start.remote(threads, arguments))
        return learner

    async def publish(self) -> Adapter:
        return await self._call("publish")

    async def update(self, batch: TrainBatch) -> dict[str, float]:
        return await self._call("update", batch)

    async def score(self, sequences: Sequence[Sequence[int]], *, base: bool = False) -> list[list[float]]:
        return await self._call("score", [list(sequence) for sequence in sequences], base=base)

    async def state(self) -> bytes:
        return await self._call("state")

    async def load_state(self, state: bytes) -> None:
        await self._call("load_state", state)

    async def facts(self) -> Mapping[str, int]:
        return await self._call("facts")

    async def close(self) -> None:
        ray.kill(self._handle)

    async def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        return await self._unwrap(self._handle.call.remote(method, *arguments, **options))

    async def _unwrap(self, reference: Any) -> Any:
        try:
            return await reference
        except RayTaskError as error:
            raise error.cause from error
