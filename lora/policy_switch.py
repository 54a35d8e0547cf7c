"""One model that computes as any policy of it: adapters of every shape, and whole sets of weights."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lora.config import LoraConfig
from lora.peft.description import Description
from lora.peft.files import unpack
from lora.trainable.inject import check_adapted, inject
from lora.trainable.lora_layers import LoraLayers
from lora.trainable.named_tensors import check_fit
from lora.types import Adapter

Shape = tuple[int, float, tuple[str, ...]]
"""Rank, alpha and targets: adapters of one shape take turns in one slot."""


class PolicySwitcher:
    """A base model and what of the policies was put on it so far."""

    def __init__(self, model: nn.Module, lora: LoraConfig) -> None:
        """`lora` is a shape to be ready for. Raises ValueError if the model lacks a layer that it adapts."""
        self._weights = dict(model.named_parameters())  # before a layer is wrapped, which changes its weight's name
        self._model = model
        self._own: dict[str, Tensor] = {}
        self._shown = ""
        self._slots: dict[Shape, LoraLayers] = {}
        self._loaded: dict[Shape, str] = {}
        targets = lora.all_targets
        self._first = self._slot((lora.rank, lora.alpha, targets))

    @contextmanager
    def policy(self, adapter: Adapter) -> Generator[None]:
        """The model computes as that policy, inside the block, in which nothing else may be asked of it.

        Raises:
            ValueError: the policy is another model's.
        """
        tensors, description = unpack(adapter.payload)
        if description.rank == 0:
            self._show(adapter.name, tensors)
            with self._first.disabled():
                yield
            return
        self._show("", self._own)
        with self._fill(adapter.name, tensors, description).exclusively():
            yield

    def _fill(self, name: str, tensors: dict[str, Tensor], description: Description) -> LoraLayers:
        shape = (description.rank, description.alpha, tuple(description.targets))
        layers = self._slot(shape)
        if self._loaded.get(shape) != name:
            layers.load(tensors)
            self._loaded[shape] = name
        return layers

    def _slot(self, shape: Shape) -> LoraLayers:
        if shape not in self._slots:
            rank, alpha, targets = shape
            config = LoraConfig(rank=rank, alpha=alpha, targets=targets, allow_large_rank=True)
            layers = inject(self._model, config)
            check_adapted(self._model, layers)  # else it is off the model again, and the base would answer for it
            self._slots[shape] = layers
        return self._slots[shape]

    @torch.no_grad()
    def _show(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Put these weights into the model; those it came with have no name."""
        if name == self._shown:
            return
        check_fit(self._weights, tensors, "weights")
        if not self._own:
            self._own = {key: weight.detach().clone() for key, weight in self._weights.items()}
        for key, weight in self._weights.items():
            weight.copy_(tensors[key])
        self._shown = name
