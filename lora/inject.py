"""Put an adapter on a base model: swap its linear layers for `LoraLinear`, and fail if a target matches nothing."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lora.config import LoraConfig
from lora.layer import LoraLinear


class LoraLayers(dict[str, LoraLinear]):
    """The adapted layers of one model by module name, in the model's order."""

    def tensors(self) -> dict[str, Tensor]:
        """The trainable tensors: `NAME.lora_A` of shape [rank, d_in] and `NAME.lora_B` of shape [d_out, rank]."""
        named: dict[str, Tensor] = {}
        for name, layer in self.items():
            named[f"{name}.lora_A"], named[f"{name}.lora_B"] = layer.lora_A, layer.lora_B
        return named

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Copy `tensors`, named as `tensors()` names them, into the layers.

        Raises:
            ValueError: a name or a shape does not fit this model.
        """
        mine = self.tensors()
        if missing := sorted(mine.keys() ^ tensors.keys()):
            raise ValueError(f"the adapter and the model do not have the same layers: {missing[0]} is in one only")
        with torch.no_grad():
            for name, mine_tensor in mine.items():
                if mine_tensor.shape != tensors[name].shape:
                    have, want = list(tensors[name].shape), list(mine_tensor.shape)
                    raise ValueError(f"{name} of the adapter has shape {have}, the model needs {want}")
                mine_tensor.copy_(tensors[name])

    @contextmanager
    def replaced(self, tensors: dict[str, Tensor]) -> Generator[None]:
        """Another adapter of the same shape, inside the block. Raises ValueError as `load` does."""
        mine = {name: tensor.detach().clone() for name, tensor in self.tensors().items()}
        try:
            self.load(tensors)
            yield
        finally:
            self.load(mine)

    @contextmanager
    def disabled(self) -> Generator[None]:
        """The base model alone, inside the block."""
        for layer in self.values():
            layer.enabled = False
        try:
            yield
        finally:
            for layer in self.values():
                layer.enabled = True


def inject(model: nn.Module, config: LoraConfig, *, seed: int = 0) -> LoraLayers:
    """Freeze `model` and adapt its target layers in place.

    Raises:
        ValueError: a target names no linear layer of the model.
    """
    model.requires_grad_(False)
    targets = (*config.targets, "lm_head") if config.lm_head else config.targets
    generator = torch.Generator().manual_seed(seed)
    layers = LoraLayers()
    for name, linear in _linears(model):
        if name.rpartition(".")[2] in targets:
            layers[name] = LoraLinear(linear, config.rank, config.alpha, generator)
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, layers[name])
    matched = {name.rpartition(".")[2] for name in layers}
    if unmatched := [target for target in targets if target not in matched]:
        present = ", ".join(sorted(matched | {name.rpartition(".")[2] for name, _ in _linears(model)}))
        raise ValueError(f"lora.targets names {', '.join(unmatched)}, but the model's linear layers are: {present}")
    return layers


def _linears(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """Linear layers by name, those inside a `LoraLinear` left out."""
    adapted = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, LoraLinear))
    linears = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return [(name, linear) for name, linear in linears if not name.startswith(adapted or ("\0",))]
