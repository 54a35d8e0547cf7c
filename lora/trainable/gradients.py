"""Gradients that autograd returns and that are added up here, in a fixed order."""

from collections.abc import Sequence

from torch import Tensor


def add_gradients(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Add to each parameter's `.grad`, in the parameter's own type; None is nothing to add."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            continue
        if parameter.grad is None:
            parameter.grad = gradient.to(parameter.dtype, copy=True)  # it may be another leaf's, too
        else:
            parameter.grad.add_(gradient)
