"""Full fine-tuning, the thing that LoRA is compared with: every weight of the model is trained, in float32."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lora.trainable.gradients import add_gradients
from lora.trainable.named_tensors import copy_into


class FullWeights:
    """Float32 masters of all of a model's weights, tied ones once. The model computes with copies in its own dtype.

    Gradients are added up in float32, on the masters.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = dict(model.named_parameters())
        self._base = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._masters = {name: nn.Parameter(tensor.to(torch.float32, copy=True)) for name, tensor in self._base.items()}
        model.requires_grad_(True)

    def tensors(self) -> dict[str, Tensor]:
        """Return the masters by their weights' names."""
        return dict(self._masters)

    def published(self) -> dict[str, Tensor]:
        """Return what is trained: nothing is made from it."""
        return self.tensors()

    def fixed(self) -> dict[str, Tensor]:
        """Return no tensors: the masters mean something by themselves."""
        return {}

    def leaves(self) -> list[Tensor]:
        """Return the tensors that gradients flow to: the model's own copies."""
        return list(self._parameters.values())

    def accumulate(self, gradients: Sequence[Tensor | None]) -> None:
        """Add the copies' gradients to the masters'; None is nothing to add."""
        add_gradients(list(self._masters.values()), gradients)

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Copy `tensors` into the masters and the model. Raises ValueError if they are another model's."""
        copy_into(self._masters, tensors, "weights")
        self.sync()

    def detach(self) -> None:
        """Give the model its own weights back, and train them no longer."""
        self._show(self._base)
        for parameter in self._parameters.values():
            parameter.requires_grad_(False)

    def sync(self) -> None:
        """Bring the model's copies to what the masters are, after the optimizer moved them."""
        self._show(self._masters)

    @contextmanager
    def exclusively(self) -> Generator[None]:
        """Do nothing: a model has one set of weights."""
        yield

    @contextmanager
    def swapped_in(self, tensors: dict[str, Tensor]) -> Generator[None]:
        """Compute with other weights, inside the block, where nothing can be learned: gradients would come too late."""
        self._show(tensors)
        try:
            with torch.no_grad():
                yield
        finally:
            self.sync()

    @contextmanager
    def disabled(self) -> Generator[None]:
        """Compute with the weights that training began from, inside the block."""
        with self.swapped_in(self._base):
            yield

    @torch.no_grad()
    def _show(self, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[name])
