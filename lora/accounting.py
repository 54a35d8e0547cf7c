"""What an adapter costs and what it can hold: parameters, FLOPs, bits, and the learning rate that fits."""

from torch import nn

from lora.config import LoraConfig
from lora.layer import LoraLinear

SMALLEST = 50_000_000
FULL_TO_LORA_LR = 10
"""LoRA's best learning rate is about ten times full fine-tuning's ("LoRA Without Regret", 2025)."""


def trained_parameters(layers: dict[str, LoraLinear]) -> int:
    """How many numbers training changes."""
    return sum(layer.lora_A.numel() + layer.lora_B.numel() for layer in layers.values())


def model_parameters(model: nn.Module) -> int:
    """How many numbers the model has, adapters left out, tied ones counted once."""
    return sum(p.numel() for name, p in model.named_parameters() if not name.endswith(("lora_A", "lora_B")))


def advised_lr(parameters: int) -> float:
    """A learning rate for RL at alpha 32 that was seen to work on models of this size."""
    if parameters < 10_000_000:
        return 3e-3
    return 5e-5 if parameters >= 500_000_000 else 5e-4


def advice(parameters: int, lora: LoraConfig, lr: float, completions_per_step: int) -> list[str]:
    """Warnings, each with the number to use instead. Models under 50M parameters are toys, without known rates."""
    good = advised_lr(parameters)
    warnings: list[str] = []
    if lr <= good / 5 and parameters >= SMALLEST:
        warnings.append(
            f"learner.lr = {lr:g} looks like a full fine-tuning rate, and LoRA wants about {FULL_TO_LORA_LR} times "
            f"that: try {good:g}"
        )
    if lr >= good * 4 and parameters >= SMALLEST:
        warnings.append(f"learner.lr = {lr:g} is in the range where runs of this size collapse; try {good:g}")
    if lora.alpha != 32:
        warnings.append(f"lora.alpha = {lora.alpha:g}: the advised learning rates hold for alpha 32 at every rank")
    if completions_per_step > 2048:
        warnings.append(
            f"{completions_per_step} completions a step: LoRA tolerates large batches worse; try up to 1024"
        )
    return warnings
