"""A plan of the memory on a learner's device, which decides on gradient checkpointing and the size of microbatches."""

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import torch
from torch import nn

from lora.accounting import linear_kinds, model_parameters
from lora.base.architecture import attends_only
from lora.base.dtype import torch_dtype
from lora.base.load import load_skeleton
from lora.base.quantize import weight_bytes
from lora.config import LoraConfig, ModelConfig
from lora.layers.experts import is_experts
from rl.config import LearnerConfig
from rl.learner.memory.activations import Activations

CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
ADAPTER_BYTES, FULL_BYTES = 4 + 4 + 8, 2 + 4 + 4 + 8
"""A trained number's: fp32 master, gradient and Adam's two moments; full fine-tuning keeps a bf16 copy besides."""
FILL = 0.9
"""Share of the memory that is planned with: the rest is CUDA's own, and lost between allocations."""
MICROBATCH, LARGEST_MICROBATCH = 4096, 32_768
"""Tokens of a microbatch: enough that a large model's products keep a GPU busy, and that a small one's do."""
SMALLEST_MICROBATCH = 512
CPU_SHARE = 0.25
"""Share of a machine's memory that a learner on its CPUs may be planned to need: engines and graders are beside it, and
it takes up to a third more than planned, because several microbatches are under way at once."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The largest things that a learner has to hold, and its share of the device."""

    longest_row: int | None = None
    """Inputs of the longest row that a step may have; None stands for as many as the model may have."""
    share: float = 1.0
    """Of its device's memory, where rollout workers are on the same device."""
    policies: int = 1
    """Trained at once on the base model."""
    beside: float = 0.0
    """Bytes of the weights of other models that it holds."""


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
        parameters = model_parameters(skeleton)
        full = learner.weights == "full"
        adapted = sum(kind.trained(lora.rank) for kind in linear_kinds(skeleton, lora))
        weights = float(weight_bytes(skeleton, model))
        targets = None if full or budget.policies > 1 else (*lora.targets, *(("lm_head",) if lora.lm_head else ()))
        joined = attends_only(skeleton)
        compiled = (
            joined
            and learner.compile
            and not (learner.shard or full)
            and budget.policies == 1
            and model.quantization is None
            and not any(is_experts(module) for module in skeleton.modules())
        )
        activations = Activations.of(skeleton, torch_dtype(model), targets, joined=joined, compiled=compiled)
        if learner.shard:  # its part of every block, and two whole ones: the one that works, and the next
            weights = weights / learner.learner_count + 2 * weights / activations.layers
        width = budget.longest_row or max(learner.tokens_per_row, model.max_length)
        return cls(
            weights=weights + budget.beside,
            trained=float(parameters * FULL_BYTES if full else adapted * budget.policies * ADAPTER_BYTES),
            activations=activations,
            tokens=max(width, MICROBATCH if learner.tokens_per_microbatch == "auto" else learner.tokens_per_microbatch),
            width=width,
        )

    def bytes(self, *, checkpointing: bool) -> float:
        """Held at the peak of an update."""
        return (
            self.weights + self.trained + self.activations.bytes(self.tokens, self.width, checkpointing=checkpointing)
        )

    def largest_microbatch(self, memory: float, *, checkpointing: bool) -> int:
        """Return the most tokens, of `self.tokens` times a power of two, that a device with so many bytes holds."""
        larger = replace(self, tokens=2 * self.tokens)
        if larger.tokens > LARGEST_MICROBATCH or larger.bytes(checkpointing=checkpointing) > FILL * memory:
            return self.tokens
        return larger.largest_microbatch(memory, checkpointing=checkpointing)

    def fitting_microbatch(self, memory: float, *, checkpointing: bool) -> int:
        """Return `MICROBATCH` tokens, halved until so many bytes hold them."""
        tokens = MICROBATCH
        while tokens > SMALLEST_MICROBATCH:
            if replace(self, tokens=tokens).bytes(checkpointing=checkpointing) <= memory:
                break
            tokens //= 2
        return tokens

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
    if not _has_gpu(device):
        return False
    _, total = torch.cuda.mem_get_info(device)
    return not LearnerMemory.of(load_skeleton(model), model, lora, learner, budget).fits(budget.share * total)


def resolve_microbatch(
    model: ModelConfig, lora: LoraConfig, learner: LearnerConfig, device: str, budget: Budget, *, checkpointing: bool
) -> int:
    """Say what `learner.tokens_per_microbatch` comes to on this device: "auto" is what its memory is planned to hold.

    Counted is all memory that there is, not what is free now: a resumed run is to do the same.
    """
    setting: int | Literal["auto"] = learner.tokens_per_microbatch
    if setting != "auto":
        return setting
    memory = LearnerMemory.of(load_skeleton(model), model, lora, learner, budget)
    if not _has_gpu(device):
        return memory.fitting_microbatch(CPU_SHARE * host_memory(), checkpointing=checkpointing)
    _, total = torch.cuda.mem_get_info(device)
    return memory.largest_microbatch(budget.share * total, checkpointing=checkpointing)


def host_memory() -> int:
    """Return the bytes of memory that this process may use: the machine's, or its container's."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit: "max"
        return min(machine, int(CONTAINER_LIMIT.read_text()))
    return machine


def _has_gpu(device: str) -> bool:
    """Return True if it is a GPU, and there; where there is none after all, loading the model says so."""
    return torch.device(device).type == "cuda" and torch.cuda.is_available()
