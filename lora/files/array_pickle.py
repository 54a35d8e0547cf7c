"""Dataclasses of tensors that cross to another process as arrays: a tensor's own pickle takes a hundred microseconds,
and a step has thousands of small ones."""

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor


def reduce_as_arrays(value: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return what a dataclass's `__reduce__` returns so that its tensors, and those in its lists, travel as arrays."""
    return _rebuilt, (type(value), [_to_array(getattr(value, field.name)) for field in fields(value)])


def _rebuilt(made: Callable[..., Any], parts: Iterable[Any]) -> Any:
    return made(*(_to_tensor(part) for part in parts))


def _to_array(part: Any) -> Any:
    if isinstance(part, list):
        return [_to_array(each) for each in cast("list[Any]", part)]
    if isinstance(part, Tensor) and part.dtype is not torch.bfloat16:  # which NumPy does not have
        return part.detach().cpu().numpy()
    return part


def _to_tensor(part: Any) -> Any:
    if isinstance(part, list):
        return [_to_tensor(each) for each in cast("list[Any]", part)]
    if isinstance(part, np.ndarray):
        return torch.from_numpy(part if part.flags.writeable else part.copy())  # Ray's store is read-only
    return part
