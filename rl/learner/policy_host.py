"""The learner's side of several policies on one base model: by name, wherever it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from lora.accounting import model_parameters
from lora.config import LoraConfig, ModelConfig
from lora.types import Adapter
from rl.config import LearnerConfig
from rl.learner.memory import Budget, resolve_checkpointing
from rl.learner.policy import Policy, PolicySpec
from rl.learner.shared_model import PolicyBatch, SharedModel
from rl.types import TrainBatch


@dataclass(frozen=True, slots=True)
class PolicyUpdate:
    """What one policy learns in a joint update."""

    run: str
    batch: TrainBatch
    lr_scale: float


@dataclass(frozen=True, slots=True)
class LearnerSpec:
    """The base model that the policies share."""

    model: ModelConfig
    device: str
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """What all policies agree on: microbatches and gradient checkpointing."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """The largest of the adapters."""
    budget: Budget = field(default_factory=Budget)


class PolicyHost:
    """A `SharedModel` and the policies on it."""

    def __init__(self, spec: LearnerSpec) -> None:
        """Raises ValueError if there is no such model."""
        self.checkpointing = resolve_checkpointing(spec.model, spec.lora, spec.learner, spec.device, spec.budget)
        self._shared = SharedModel(
            spec.model,
            device=spec.device,
            tokens_per_microbatch=spec.learner.tokens_per_microbatch,
            gradient_checkpointing=self.checkpointing,
        )
        self._policies: dict[str, Policy] = {}

    def add(self, spec: PolicySpec) -> None:
        """Begin a policy; one of that name begins anew. Raises ValueError if the model lacks a layer that it adapts."""
        self.remove(spec.run)
        self._policies[spec.run] = self._shared.add(spec)

    def remove(self, run: str) -> None:
        """End a policy, if there is one of that name."""
        if run in self._policies:
            self._shared.remove(self._policies.pop(run))

    def update(self, parts: Sequence[PolicyUpdate]) -> list[dict[str, float]]:
        """One optimizer step of each policy; the metrics of each, in the parts' order."""
        return self._shared.update([PolicyBatch(self._policies[part.run], part.batch, part.lr_scale) for part in parts])

    def publish(self, run: str) -> Adapter:
        return self._policies[run].publish(self._shared.dtype)

    def score(
        self, run: str, sequences: Sequence[Sequence[int]], under: Adapter | Literal["policy", "base"]
    ) -> list[list[float]]:
        return self._shared.score(sequences, self._policies[run], under)

    def state(self, run: str) -> bytes:
        return self._policies[run].state()

    def load_state(self, run: str, state: bytes) -> None:
        self._policies[run].load_state(state)

    def facts(self, run: str) -> Mapping[str, int]:
        trained = sum(parameter.numel() for parameter in self._policies[run].parameters)
        return {
            "trained_parameters": trained,
            "model_parameters": model_parameters(self._shared.model),
            "gradient_checkpointing": int(self.checkpointing),
        }


class LearnerHost(Protocol):
    """A `PolicyHost`, wherever it is."""

    async def call(self, method: str, *arguments: Any) -> Any:
        """Raises LearnerDied if it is gone."""
        ...

    async def restart(self) -> None:
        """Begin anew, without policies."""
        ...

    async def close(self) -> None: ...


class LocalHost(LearnerHost):
    """In this process."""

    def __init__(self, spec: LearnerSpec) -> None:
        self._spec = spec
        self._host = PolicyHost(spec)

    async def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self._host, method)(*arguments)

    async def restart(self) -> None:
        self._host = PolicyHost(self._spec)

    async def close(self) -> None:
        """It goes with the process."""
