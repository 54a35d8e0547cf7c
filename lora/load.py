"""Load a base model with a fresh adapter on it."""

from dataclasses import dataclass

from torch import nn

from lora.base.load import load_base
from lora.config import LoraConfig, ModelConfig
from lora.peft.description import Description
from lora.trainable.inject import inject
from lora.trainable.lora_layers import LoraLayers


@dataclass(frozen=True, slots=True)
class AdaptedModel:
    """A frozen base model and the adapter on it."""

    model: nn.Module
    layers: LoraLayers
    description: Description


def load_adapted(model: ModelConfig, lora: LoraConfig, *, device: str = "cpu", seed: int = 0) -> AdaptedModel:
    """Return the model in `model.dtype`, in evaluation mode, with an adapter whose A is drawn from `seed`.

    Raises:
        ValueError: there is no such model, or it lacks a target layer.
    """
    return adapt(load_base(model, device), model, lora, seed=seed)


def adapt(base: nn.Module, model: ModelConfig, lora: LoraConfig, *, seed: int = 0) -> AdaptedModel:
    """Return a loaded base with a fresh adapter. Raises ValueError if it lacks a target layer."""
    layers = inject(base, lora, seed=seed)
    targets = lora.all_targets
    description = Description(model.name, lora.rank, lora.alpha, targets, layers.expert_rank)
    return AdaptedModel(base.eval(), layers, description)
