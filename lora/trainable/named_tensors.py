"""Tensors copied into those of the same names, all of them or none."""

from collections.abc import Mapping

import torch
from torch import Tensor


def copy_into(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], what: str = "adapter") -> None:
    """Copy `tensors`, which messages call `what`, into those of the same names.

    Raises:
        ValueError: they have other names or shapes; nothing was copied then.
    """
    check_fit(own, tensors, what)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def check_fit(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], what: str) -> None:
    """Raises ValueError if `tensors`, which the message calls `what`, have not the names and shapes of our `own`."""
    if strange := sorted(own.keys() ^ tensors.keys()):
        raise ValueError(f"the {what} and the model do not have the same names: {strange[0]} is in one only")
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            have, want = list(tensors[name].shape), list(tensor.shape)
            raise ValueError(f"{name} of the {what} has shape {have}, the model needs {want}")
