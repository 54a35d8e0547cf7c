"""The learner of one policy, in this process."""

from collections.abc import Mapping, Sequence
from typing import Literal

from lora.accounting import model_parameters
from lora.config import LoraConfig, ModelConfig
from lora.types import Adapter
from rl.config import LearnerConfig
from rl.learner.collectives import ProcessGroup, SingleProcess
from rl.learner.memory import Budget, resolve_checkpointing
from rl.learner.policy import Policy, PolicySpec
from rl.learner.shared_model import PolicyBatch, SharedModel
from rl.types import Learner, TrainBatch


class TorchLearner(Learner):
    """A base model and the one policy that is trained on it, on one device."""

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
        peers: ProcessGroup | None = None,
        budget: Budget | None = None,
    ) -> None:
        """Raises ValueError if there is no such model, or it cannot be adapted."""
        peers = peers or SingleProcess()
        checkpointing = resolve_checkpointing(model, lora, config, device, budget or Budget())
        self.checkpointing = bool(peers.max(int(checkpointing)))  # those of a sharded model go through it in step
        self.shared = SharedModel(
            model,
            device=device,
            tokens_per_microbatch=config.tokens_per_microbatch,
            gradient_checkpointing=self.checkpointing,
            peers=peers,
        )
        self.policy: Policy = self.shared.add(PolicySpec(run, lora, config, temperature, seed))

    async def publish(self) -> Adapter:
        return self.policy.publish(self.shared.dtype)

    async def update(self, batch: TrainBatch, *, lr_scale: float = 1.0) -> dict[str, float]:
        (metrics,) = self.shared.update([PolicyBatch(self.policy, batch, lr_scale)])
        return metrics

    async def score(
        self, sequences: Sequence[Sequence[int]], *, under: Adapter | Literal["policy", "base"] = "policy"
    ) -> list[list[float]]:
        return self.shared.score(sequences, self.policy, under)

    async def state(self) -> bytes:
        return self.policy.state()

    async def load_state(self, state: bytes) -> None:
        self.policy.load_state(state)

    async def facts(self) -> Mapping[str, int]:
        return {
            "trained_parameters": sum(parameter.numel() for parameter in self.policy.parameters),
            "model_parameters": model_parameters(self.shared.model),
            "gradient_checkpointing": int(self.checkpointing),
        }

    async def close(self) -> None:
        self.policy.optimizer.zero_grad()
