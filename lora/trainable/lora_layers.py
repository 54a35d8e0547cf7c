"""An adapter on a model: its part of each adapted layer, and the blocks in which the model computes with it."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from lora.layers.experts import ExpertsLowRank
from lora.layers.linear import LowRank
from lora.layers.routing import BASE, Route, Routing
from lora.trainable.gradients import add_gradients
from lora.trainable.named_tensors import copy_into


class LoraLayers(dict[str, LowRank | ExpertsLowRank]):
    """One adapter's part of each layer that it adapts, by module name, in the model's order; experts come last."""

    def __init__(self, slot: int, routing: Routing) -> None:
        super().__init__()
        self.slot = slot
        self.routing = routing
        self.expert_rank: int | None = None
        """Rank of each expert's adapter; None where no experts are adapted."""

    def published(self) -> dict[str, Tensor]:
        """Return the adapter's tensors: `NAME.lora_A` [rank, d_in] and `NAME.lora_B` [d_out, rank]."""
        named: dict[str, Tensor] = {}
        for name, layer in self.items():
            named[f"{name}.lora_A"], named[f"{name}.lora_B"] = layer.lora_A, layer.lora_B
        return named

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that are trained: here those that are published."""
        return self.published()

    def fixed(self) -> dict[str, Tensor]:
        """Return the tensors that the trained ones mean nothing without: here none."""
        return {}

    def leaves(self) -> list[Tensor]:
        """Return the tensors that gradients flow to: here those that the model computes with."""
        return list(self.tensors().values())

    def accumulate(self, gradients: Sequence[Tensor | None]) -> None:
        """Add to the tensors' gradients, in their order; None is nothing to add."""
        add_gradients(self.leaves(), gradients)

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Copy `tensors`, named as `tensors()` names them, into the layers.

        Raises:
            ValueError: a name or a shape does not fit this model.
        """
        copy_into(self.tensors(), tensors)

    def sync(self) -> None:
        """Do nothing: the layers compute with the tensors themselves."""

    @contextmanager
    def swapped_in(self, tensors: dict[str, Tensor]) -> Generator[None]:
        """Compute with another adapter of the same shape, inside the block, in which nothing can be learned.

        Its numbers are gone when a backward pass would need them.

        Raises:
            ValueError: as `load`.
        """
        own = {name: tensor.detach().clone() for name, tensor in self.published().items()}
        try:
            copy_into(self.published(), tensors)
            with torch.no_grad():
                yield
        finally:
            copy_into(self.published(), own)

    @contextmanager
    def exclusively(self) -> Generator[None]:
        """Route a whole batch through this adapter, inside the block."""
        with self.routing.under(Route(((self.slot, None),))):
            yield

    @contextmanager
    def disabled(self) -> Generator[None]:
        """Compute with the base model alone, inside the block."""
        with self.routing.under(BASE):
            yield


@contextmanager
def routed(parts: Sequence[tuple[LoraLayers, slice]], positions: int) -> Generator[None]:
    """Give each adapter its part of the `positions` that are computed, inside the block (see `lora.layers.routing`)."""
    assert parts
    route = Route(tuple((layers.slot, part) for layers, part in parts), positions)
    with parts[0][0].routing.under(route):
        yield
