"""The costs and the capacity of an adapter: parameters, FLOPs, bits, and the learning rate that fits."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from lora.base.architecture import check_linears, is_linear, reads_text
from lora.base.targets import wants_experts
from lora.config import ATTENTION, LoraConfig
from lora.layers.experts import PROJECTIONS, ExpertsLowRank, active_experts, expert_rank, is_experts
from lora.layers.linear import LowRank
from lora.layers.quantized import QuantizedLinear
from lora.trainable.tiny import num_vectors

SMALLEST = 50_000_000
FULL_TO_LORA_LR = 10
"""LoRA's best learning rate is about ten times full fine-tuning's ("LoRA Without Regret", 2025)."""


@dataclass(frozen=True, slots=True)
class LinearKind:
    """Linear layers of one name and shape.

    Example: ``LinearKind("q_proj", count=30, d_in=576, d_out=576, adapted=True)``
    """

    name: str
    count: int
    d_in: int
    d_out: int
    adapted: bool
    experts: int = 1
    """Experts of a layer, of which a token goes through `active`."""
    active: int = 1

    @property
    def weights(self) -> int:
        """Numbers in those of them that a token meets."""
        return self.count * self.d_in * self.d_out * self.active // self.experts

    def trained(self, rank: int) -> int:
        """Numbers of the adapters on them: A is [rank, d_in], B is [d_out, rank]."""
        return self.count * expert_rank(rank, self.active) * (self.d_in + self.d_out) if self.adapted else 0

    def multiply_adds(self, rank: int | None) -> int:
        """Return the multiply-adds of one token's forward and backward pass; ``rank`` None is full fine-tuning.

        Full: the product, the gradient of its input, the gradient of its weight. LoRA leaves the last one out, and does
        all three for A and B ("LoRA Without Regret", 2025: 2 N^2 + 6 N r against 3 N^2).
        """
        if rank is None:
            return 3 * self.weights
        return 2 * self.weights + 3 * self.trained(rank) * self.active // self.experts


def linear_kinds(model: nn.Module, lora: LoraConfig) -> list[LinearKind]:
    """The model's linear layers that text goes through, by name and shape, in the model's order. It may be on the meta
    device.

    Raises:
        ValueError: a target names no layer, or one that is more than linear.
    """
    targets = set(lora.all_targets)
    check_linears(model, targets)
    shapes: Counter[tuple[str, int, int]] = Counter()
    text_modules = reads_text(model)
    for name, module in model.named_modules():
        if is_linear(module) and module in text_modules:
            shapes[name.rpartition(".")[2], module.in_features, module.out_features] += 1
    kinds = [LinearKind(name, n, d_in, d_out, name in targets) for (name, d_in, d_out), n in shapes.items()]
    experts = [module for module in model.modules() if is_experts(module) and module in text_modules]
    adapts_experts = wants_experts(lora, experts)
    kinds += _expert_kinds(model, experts, adapted=adapts_experts)
    if missing := targets - {kind.name for kind in kinds} - (set(PROJECTIONS) if adapts_experts else set()):
        present = ", ".join(kind.name for kind in kinds)
        raise ValueError(f"lora.targets names {min(missing)!r}, and the model's linear layers are: {present}")
    return kinds


def _expert_kinds(model: nn.Module, experts: Sequence[nn.Module], *, adapted: bool) -> list[LinearKind]:
    if not experts:
        return []
    active = active_experts(cast(Any, model).config)
    shapes = Counter(
        (name, *getattr(module, name).shape) for module in experts for name in ("gate_up_proj", "down_proj")
    )
    return [
        LinearKind(f"experts.{name}", layers * count, d_in, d_out, adapted, count, active)
        for (name, count, d_out, d_in), layers in shapes.items()
    ]


def trained_numbers(kinds: Sequence[LinearKind], lora: LoraConfig) -> int:
    """Return how many numbers training would change on layers of these kinds."""
    if lora.kind == "tiny":
        return lora.u * num_vectors(sum(kind.count for kind in kinds if kind.adapted), lora.weight_tying)
    return sum(kind.trained(lora.rank) for kind in kinds)


def trained_parameters(layers: Mapping[str, LowRank | ExpertsLowRank]) -> int:
    """Return how many numbers training changes."""
    return sum(layer.lora_A.numel() + layer.lora_B.numel() for layer in layers.values())


def model_parameters(model: nn.Module) -> int:
    """Return how many numbers the model has, adapters left out, tied ones counted once, and quantised ones too."""
    quantised = (module for module in model.modules() if isinstance(module, QuantizedLinear))
    whole = sum(p.numel() for name, p in model.named_parameters() if not name.endswith(("lora_A", "lora_B")))
    return whole + sum(module.in_features * module.out_features for module in quantised)


def advised_lr(parameters: int) -> float:
    """A learning rate for RL at alpha 32 that was seen to work on models of this size."""
    if parameters < 10_000_000:
        return 3e-3
    return 5e-5 if parameters >= 500_000_000 else 5e-4


def advice(parameters: int, lora: LoraConfig, lr: float, completions_per_step: int) -> list[str]:
    """Warnings, each with the number to use instead. No rates are known for TinyLoRA, nor for models
    under 50M parameters, which are toys."""
    good = advised_lr(parameters)
    warnings: list[str] = []
    knows_rates = parameters >= SMALLEST and lora.kind == "lora"
    if lr <= good / 5 and knows_rates:
        warnings.append(
            f"learner.lr = {lr:g} looks like a full fine-tuning rate, and LoRA wants about {FULL_TO_LORA_LR} times "
            f"that: try {good:g}"
        )
    if lr >= good * 4 and knows_rates:
        warnings.append(f"learner.lr = {lr:g} is in the range where runs of this size collapse; try {good:g}")
    warnings += layer_advice(lora)
    if completions_per_step > 2048:
        warnings.append(
            f"{completions_per_step} completions a step: LoRA tolerates large batches worse; try up to 1024"
        )
    return warnings


def layer_advice(lora: LoraConfig) -> list[str]:
    """Warnings about what is adapted, and how strongly."""
    warnings: list[str] = []
    if set(lora.targets) <= set(ATTENTION):
        warnings.append("lora.targets leaves the MLP out: attention alone learns less, even at equal parameter count")
    if lora.alpha != 32 and lora.kind == "lora":
        warnings.append(f"lora.alpha = {lora.alpha:g}: the advised learning rates hold for alpha 32 at every rank")
    return warnings


def supervised_advice(parameters: int, lora: LoraConfig, lr: float, completions_per_step: int) -> list[str]:
    """The same for learning from given completions, which bears higher rates and wants smaller batches.

    The numbers are places to begin, not measured ones.
    """
    good = 3e-4 if parameters >= 500_000_000 else 1e-3
    warnings = layer_advice(lora)
    if parameters >= SMALLEST and lora.kind == "lora" and not good / 5 < lr < good * 5:
        what = "looks like a full fine-tuning rate" if lr < good else "is very high"
        warnings.append(f"learner.lr = {lr:g} {what}; for given completions, try {good:g}")
    if completions_per_step > 128:
        warnings.append(f"{completions_per_step} completions a step: LoRA tolerates large batches worse; try up to 128")
    return warnings


def kept_numbers(model: nn.Module) -> int:
    """Return how many numbers of keys and values a token keeps. A recurrent layer has a state of one size instead."""
    about: Any = cast(Any, model).config.get_text_config()
    heads: int = getattr(about, "num_attention_heads", None) or 0
    if heads == 0:
        return 0
    kinds: list[str] = getattr(about, "layer_types", None) or ["full_attention"] * about.num_hidden_layers
    layers = sum((kind != "linear_attention" and "attention" in kind) or kind.startswith("hybrid") for kind in kinds)
    width = getattr(about, "head_dim", None) or about.hidden_size // heads
    return 2 * layers * (getattr(about, "num_key_value_heads", None) or heads) * width
