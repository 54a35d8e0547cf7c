"""A learner of one policy in this process, whose insides a test can look at."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from lora.config import LoraConfig, ModelConfig
from lora.types import Adapter
from rl.config import LearnerConfig
from rl.learner.bases.shared_model import SharedModel
from rl.learner.collectives import ProcessGroup
from rl.learner.memory.plan import Budget
from rl.learner.policies.policy import Policy, PolicySpec
from rl.learner.policy_host import LearnerSpec, PolicyHost, PolicyUpdate
from rl.types import Learner, TrainBatch, Under


class TorchLearner(Learner):
    """A `PolicyHost` with one policy."""

    def __init__(
        self,
        run: str,
        model: ModelConfig,
        lora: LoraConfig,
        config: LearnerConfig,
        *,
        temperature: float,
        seed: int,
        device: str = "cpu",
        group: ProcessGroup | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.host = PolicyHost(LearnerSpec(model, device, config, lora, budget or Budget()), group)
        self.host.add(PolicySpec(run, lora, config, temperature, seed))
        self._run = run

    @property
    def shared(self) -> SharedModel:
        return self.host.model

    @property
    def policy(self) -> Policy:
        return self.host.policies[self._run]

    @property
    def checkpointing(self) -> bool:
        return self.host.checkpointing

    async def publish(self) -> Adapter:
        return self.host.publish(self._run)

    async def update(self, batch: TrainBatch, *, lr_scale: float = 1.0) -> dict[str, float]:
        (metrics,) = self.host.update([PolicyUpdate(self._run, batch, lr_scale)])
        return metrics

    async def logprobs(self, batch: TrainBatch) -> list[Tensor]:
        (output,) = self.host.forward([PolicyUpdate(self._run, batch)])
        return output.logprobs

    async def score(self, sequences: Sequence[Sequence[int]], *, under: Under = "policy") -> list[list[float]]:
        return self.host.score(self._run, sequences, under)

    async def state(self) -> bytes:
        return self.host.state(self._run)

    async def load_state(self, state: bytes) -> None:
        self.host.load_state(self._run, state)

    async def facts(self) -> Mapping[str, int]:
        return self.host.facts(self._run)

    async def close(self) -> None:
        """It goes with the process."""
