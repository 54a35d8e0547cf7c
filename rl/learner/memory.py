"""A plan of the memory on a learner's device, which decides on gradient checkpointing."""

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import nn

from lora.accounting import linear_kinds, model_parameters
from lora.config import LoraConfig, ModelConfig
from lora.load import load_skeleton
from rl.config import LearnerConfig
from rl.learner.activations import DTYPE_BYTES, Activations

ADAPTER_BYTES, FULL_BYTES = 4 + 4 + 8, 2 + 4 + 4 + 8
"""A trained number's: fp32 master, gradient and Adam's two moments; full fine-tuning keeps a bf16 copy besides."""
FILL = 0.9
"""Share of the memory that is planned with: the rest is CUDA's own, and lost between allocations."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The largest things that a learner has to hold, and its share of the device."""

    longest_row: int | None = None
    """Inputs of the longest row that a step may have; None stands for as many as the model may have."""
    share: float = 1.0
    """Of its device's memory, where rollout workers are on the same device."""
    policies: int = 1
    """Trained at once on the base model."""


@dataclass(frozen=True, slots=True)
class LearnerMemory:
    """Bytes of a learner. A microbatch is `tokens` inputs in rows of `width`, the most there can be."""

    weights: float
    trained: float
    activations: Activations
    tokens: int
    width: int

    @classmethod
    def of(
        cls, skeleton: nn.Module, model: ModelConfig, lora: LoraConfig, learner: LearnerConfig, budget: Budget
    ) -> Self:
        """Count a learner's; the skeleton may be on the meta device."""
        parameters, size = model_parameters(skeleton), DTYPE_BYTES[model.dtype]
        full = learner.weights == "full"
        adapted = sum(kind.trained(lora.rank) for kind in linear_kinds(skeleton, lora))
        weights = float(parameters * size)
        targets = None if full or budget.policies > 1 else (*lora.targets, *(("lm_head",) if lora.lm_head else ()))
        activations = Activations.of(skeleton, model.dtype, targets)
        if learner.shard:  # its part of every block, and two whole ones: the one that works, and the next
            weights = weights / learner.num_learners + 2 * weights / activations.layers
        width = budget.longest_row or max(learner.tokens_per_row, model.max_length)
        return cls(
            weights=weights,
            trained=float(parameters * FULL_BYTES if full else adapted * budget.policies * ADAPTER_BYTES),
            activations=activations,
            tokens=max(width, learner.tokens_per_microbatch),
            width=width,
        )

    def bytes(self, *, checkpointing: bool) -> float:
        """Held at the peak of an update."""
        return (
            self.weights + self.trained + self.activations.bytes(self.tokens, self.width, checkpointing=checkpointing)
        )

    def fits(self, memory: float) -> bool:
        """Return True if a device with so many bytes holds it without gradient checkpointing."""
        return self.bytes(checkpointing=False) <= FILL * memory


def resolve_checkpointing(
    model: ModelConfig, lora: LoraConfig, learner: LearnerConfig, device: str, budget: Budget
) -> bool:
    """Say what `learner.gradient_checkpointing` comes to on this device: "auto" is on where nothing else fits."""
    setting: bool | Literal["auto"] = learner.gradient_checkpointing
    if setting != "auto":
        return setting
    if torch.device(device).type != "cuda" or not torch.cuda.is_available():
        return False  # where there is no CUDA after all, loading the model says so
    _, total = torch.cuda.mem_get_info(device)
    return not LearnerMemory.of(load_skeleton(model), model, lora, learner, budget).fits(budget.share * total)
