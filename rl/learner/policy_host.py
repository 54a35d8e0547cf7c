"""The learner: one base model and the policies that are trained on it, by name.

`PolicyHost` is what computes. Where it does so is behind `LearnerHost`, whose transports are `LocalHost` here,
`rl.learner.thread_host.ThreadHost`, and `rl.cluster.ray_host.RayHost`, with one actor or several that divide each
update's rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from lora.accounting import model_parameters
from lora.base.dtype import emulates_bfloat16
from lora.config import LoraConfig, ModelConfig
from lora.types import Adapter
from rl.algorithm.objective.summed_loss import SummedLoss
from rl.config import LearnerConfig
from rl.learner.bases.frozen_model import FrozenModel, FrozenSpec
from rl.learner.bases.shared_model import SharedModel
from rl.learner.collectives import ProcessGroup, SingleProcess
from rl.learner.memory.plan import Budget, resolve_checkpointing, resolve_microbatch
from rl.learner.passes.policy_loss import ForwardBackward, PolicyBatch
from rl.learner.policies.policy import AdamConfig, Policy, PolicySpec
from rl.types import TrainBatch, Under

Metrics = dict[str, float]


@dataclass(frozen=True, slots=True)
class PolicyUpdate:
    """One policy's part of a joint update."""

    run: str
    batch: TrainBatch
    lr_scale: float = 1.0
    settings: LearnerConfig | None = None
    """Of the objective, where they are not the policy's own."""
    loss: SummedLoss | None = None
    """In place of the policy's objective: a sum that nothing divides, at temperature 1."""


@dataclass(frozen=True, slots=True)
class LearnerSpec:
    """The base model that the policies share, and where it is."""

    model: ModelConfig
    device: str = "cpu"
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """What all policies agree on: microbatches, gradient checkpointing, how many learners there are."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """The largest of the adapters."""
    budget: Budget = field(default_factory=Budget)
    mix_policies: bool = True
    """Let rows of several policies share a microbatch, which reads the model's weights less often. Where they do not, a
    policy gets the update that it would get alone to the last bit."""
    teacher: FrozenSpec | None = None
    """A model of its own that all policies have as their teacher; one on their base is an adapter of theirs."""


class PolicyHost:
    """Policies on one base model, in this process; where there are several learners, it is one of them."""

    def __init__(self, spec: LearnerSpec, group: ProcessGroup | None = None) -> None:
        """Load the model. Raises ValueError if there is no such model, or it would not be trained on right numbers."""
        group = group or SingleProcess()
        budget = spec.budget if spec.teacher is None else replace(spec.budget, beside=spec.teacher.bytes)
        checkpointing = resolve_checkpointing(spec.model, spec.lora, spec.learner, spec.device, budget)
        self.checkpointing = bool(group.max(int(checkpointing)))  # those of a sharded model go through it in lockstep
        tokens = resolve_microbatch(
            spec.model, spec.lora, spec.learner, spec.device, budget, checkpointing=self.checkpointing
        )
        self.model = SharedModel(
            spec.model,
            device=spec.device,
            tokens_per_microbatch=tokens,
            gradient_checkpointing=self.checkpointing,
            compiled=spec.learner.compile,
            group=group,
            mix_policies=spec.mix_policies,
        )
        self._teacher: FrozenModel | None = None
        if spec.teacher is not None:
            self._teacher = FrozenModel(spec.teacher, device=spec.device, tokens_per_microbatch=tokens)
        self.policies: dict[str, Policy] = {}

    def add(self, spec: PolicySpec) -> None:
        """Begin a policy; one of that name begins anew. Raises ValueError if the model lacks a layer that it adapts."""
        self.remove(spec.run)
        self.policies[spec.run] = self.model.add(spec)

    def remove(self, run: str) -> None:
        """End a policy, if there is one of that name."""
        if run in self.policies:
            self.model.remove(self.policies.pop(run))

    def update(self, updates: Sequence[PolicyUpdate]) -> list[Metrics]:
        """Make one optimizer step of each policy; return the metrics of each, in the updates' order."""
        return self.model.update(self._batches(updates))

    def forward_backward(self, updates: Sequence[PolicyUpdate]) -> list[ForwardBackward]:
        """Add each policy's gradients to those it has; nothing is added to any of them if this fails."""
        return self.model.forward_backward(self._batches(updates))

    def forward(self, updates: Sequence[PolicyUpdate]) -> list[ForwardBackward]:
        """Return what `forward_backward` would, to the bit, and add no gradient."""
        return self.model.forward(self._batches(updates))

    def hold_gradients(self, run: str) -> None:
        """Keep a copy of the gradients added since a policy's last step, for a request that takes several calls."""
        self.policies[run].hold_gradients()

    def restore_gradients(self, run: str) -> None:
        """Go back to the gradients that `hold_gradients` kept, where a later call of the request has failed."""
        self.policies[run].restore_gradients()

    def gradients_pending(self, run: str) -> bool:
        """Return True if gradients were added since a policy's last step."""
        return self.policies[run].gradients_pending

    def optim_step(self, run: str, adam: AdamConfig) -> Metrics:
        """Move a policy by the gradients that were added since its last step; return the metrics of that."""
        return self.model.optim_step(self.policies[run], adam)

    def publish(self, run: str) -> Adapter:
        """Return the policy as it is now."""
        return self.policies[run].publish(self.model.dtype)

    def score(self, run: str, sequences: Sequence[Sequence[int]], under: Under) -> list[list[float]]:
        """Return logprobs of every token but the first, at temperature 1."""
        if under == "teacher" and self._teacher is not None:
            return self._teacher.score(sequences)
        return self.model.score(sequences, self.policies[run], under)

    def state(self, run: str) -> bytes:
        """Return all that a policy's next step depends on, but for gradients."""
        return self.policies[run].state()

    def load_state(self, run: str, state: bytes) -> None:
        """Take up what `state` returned, for this policy or another of its shape, with moments or without.

        Raises:
            ValueError: it is damaged, or of another shape or alpha.
        """
        self.policies[run].load_state(state)

    def facts(self, run: str) -> Mapping[str, int]:
        """Return numbers of trained and of all parameters and of tokens, and 1 or 0 for what is on: gradient
        checkpointing, and products in bfloat16 on a processor that has none."""
        return {
            "trained_parameters": sum(parameter.numel() for parameter in self.policies[run].parameters),
            "model_parameters": model_parameters(self.model.model),
            "gradient_checkpointing": int(self.checkpointing),
            "emulates_bfloat16": int(emulates_bfloat16(self.model.dtype, self.model.device)),
            "vocab_size": self.model.vocab_size,
        }

    def _batches(self, updates: Sequence[PolicyUpdate]) -> list[PolicyBatch]:
        return [
            PolicyBatch(self.policies[update.run], update.batch, update.lr_scale, update.settings, update.loss)
            for update in updates
        ]


class LearnerHost(Protocol):
    """A `PolicyHost`, wherever it is. Every call raises `LearnerDied` if it is gone."""

    async def add(self, spec: PolicySpec) -> None: ...

    async def remove(self, run: str) -> None: ...

    async def update(self, updates: Sequence[PolicyUpdate]) -> list[Metrics]: ...

    async def forward_backward(self, updates: Sequence[PolicyUpdate]) -> list[ForwardBackward]: ...

    async def forward(self, updates: Sequence[PolicyUpdate]) -> list[ForwardBackward]: ...

    async def hold_gradients(self, run: str) -> None: ...

    async def restore_gradients(self, run: str) -> None: ...

    async def gradients_pending(self, run: str) -> bool: ...

    async def optim_step(self, run: str, adam: AdamConfig) -> Metrics: ...

    async def publish(self, run: str) -> Adapter: ...

    async def score(self, run: str, sequences: Sequence[Sequence[int]], under: Under) -> list[list[float]]: ...

    async def state(self, run: str) -> bytes: ...

    async def load_state(self, run: str, state: bytes) -> None: ...

    async def facts(self, run: str) -> Mapping[str, int]: ...

    async def restart(self) -> None:
        """Begin anew, without policies."""
        ...

    async def close(self) -> None: ...


class LocalHost(LearnerHost):
    """A `PolicyHost` in this process."""

    def __init__(self, spec: LearnerSpec) -> None:
        self._spec = spec
        self._host = PolicyHost(spec)

    async def add(self, spec: PolicySpec) -> None:
        self._host.add(spec)

    async def remove(self, run: str) -> None:
        self._host.remove(run)

    async def update(self, updates: Sequence[PolicyUpdate]) -> list[Metrics]:
        return self._host.update(updates)

    async def forward_backward(self, updates: Sequence[PolicyUpdate]) -> list[ForwardBackward]:
        return self._host.forward_backward(updates)

    async def forward(self, updates: Sequence[PolicyUpdate]) -> list[ForwardBackward]:
        return self._host.forward(updates)

    async def hold_gradients(self, run: str) -> None:
        self._host.hold_gradients(run)

    async def restore_gradients(self, run: str) -> None:
        self._host.restore_gradients(run)

    async def gradients_pending(self, run: str) -> bool:
        return self._host.gradients_pending(run)

    async def optim_step(self, run: str, adam: AdamConfig) -> Metrics:
        return self._host.optim_step(run, adam)

    async def publish(self, run: str) -> Adapter:
        return self._host.publish(run)

    async def score(self, run: str, sequences: Sequence[Sequence[int]], under: Under) -> list[list[float]]:
        return self._host.score(run, sequences, under)

    async def state(self, run: str) -> bytes:
        return self._host.state(run)

    async def load_state(self, run: str, state: bytes) -> None:
        self._host.load_state(run, state)

    async def facts(self, run: str) -> Mapping[str, int]:
        return self._host.facts(run)

    async def restart(self) -> None:
        self._host = PolicyHost(self._spec)

    async def close(self) -> None:
        """Do nothing: the host goes with the process."""
