"""Tensors as the protocol has them, in protobuf and in JSON, dense and sparse."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl.wire import tinker_pb2 as pb

MOST_COLUMNS = 4096
"""Most targets of one position."""
DTYPES: dict[int, Any] = {pb.DTYPE_FLOAT32: np.float32, pb.DTYPE_INT64: np.int64, pb.DTYPE_INT32: np.int32}
NAMES: dict[str, Any] = {"float32": np.float32, "int64": np.int64}


@dataclass(frozen=True, slots=True)
class RawTensor:
    """A tensor as it came: its values, and where they stand if not all are given."""

    values: np.ndarray[Any, Any]
    shape: tuple[int, ...]
    crow_indices: np.ndarray[Any, Any] | None = None
    col_indices: np.ndarray[Any, Any] | None = None

    @property
    def sparse(self) -> bool:
        """True if most cells are not given (compressed sparse rows)."""
        return self.crow_indices is not None


def from_proto(message: pb.Tensor, name: str) -> RawTensor:
    """Read a protobuf tensor. Raises ValueError if its bytes are no values of its type."""
    if message.dtype not in DTYPES:
        raise ValueError(f"{name} has a type that is not known: send float32 or int64")
    dtype = DTYPES[message.dtype]
    if message.HasField("sparse_csr"):
        csr = message.sparse_csr
        values = _values(csr.values, dtype, name)
        crow, col = _values(csr.crow_indices, np.int64, name), _values(csr.col_indices, np.int64, name)
        return RawTensor(values, tuple(message.shape), crow, col)
    values = _values(message.dense, dtype, name)
    return RawTensor(values, tuple(message.shape) or (len(values),))


def from_json(data: Sequence[float], dtype: str, shape: Sequence[int] | None, crow: Any, col: Any) -> RawTensor:
    """Read a JSON tensor. Raises ValueError if its type is not known, or a value is none of it."""
    if dtype not in NAMES:
        raise ValueError(f"a tensor of type {dtype!r} is not known: send float32 or int64")
    try:
        values = np.asarray(data, NAMES[dtype])
        indices = [None if part is None else np.asarray(part, np.int64) for part in (crow, col)]
    except (OverflowError, TypeError) as error:
        raise ValueError(f"a tensor holds what is no {dtype}: {error}") from None
    return RawTensor(values, tuple(shape or (len(values),)), *indices)


def dense(tensor: RawTensor, name: str, *, rows: int, fill: int = 0) -> Tensor:
    """Return the tensor with `rows` rows, cells that were not given being `fill`.

    Raises:
        ValueError: it has another number of rows, or its parts do not fit each other.
    """
    shape = tensor.shape
    if len(shape) not in (1, 2) or shape[0] != rows or (len(shape) == 2 and not 0 < shape[1] <= MOST_COLUMNS):
        raise ValueError(f"{name} has shape {list(shape)}, and must be [{rows}] or [{rows}, K] like its input")
    if tensor.sparse:
        return torch.from_numpy(_filled(tensor, name, fill))
    if len(tensor.values) != math.prod(shape):
        raise ValueError(f"{name} has {len(tensor.values)} values for shape {list(shape)}")
    return torch.from_numpy(tensor.values.reshape(shape).copy())


def to_proto(values: np.ndarray[Any, Any]) -> pb.Tensor:
    """Write an array: whole numbers as int64, others as float32."""
    whole = np.issubdtype(values.dtype, np.integer)
    array = np.ascontiguousarray(values, np.int64 if whole else np.float32)
    dtype = pb.DTYPE_INT64 if whole else pb.DTYPE_FLOAT32
    return pb.Tensor(dense=array.tobytes(), dtype=dtype, shape=list(array.shape))


def _values(data: bytes, dtype: Any, name: str) -> np.ndarray[Any, Any]:
    if len(data) % np.dtype(dtype).itemsize:
        raise ValueError(f"{name} has {len(data)} bytes, which are no whole number of {np.dtype(dtype).name}")
    return np.frombuffer(data, dtype)


def _filled(tensor: RawTensor, name: str, fill: int) -> np.ndarray[Any, Any]:
    crow, col, values = tensor.crow_indices, tensor.col_indices, tensor.values
    if crow is None or col is None or len(tensor.shape) != 2:
        raise ValueError(f"{name} is sparse, and must have two dimensions, crow_indices and col_indices")
    rows, columns = tensor.shape
    counts = np.diff(crow)
    fits = len(crow) == rows + 1 and crow[0] == 0 and bool((counts >= 0).all()) and crow[-1] == len(col) == len(values)
    if not fits or (len(col) and not (col.min() >= 0 and col.max() < columns)):
        raise ValueError(f"{name} is sparse, and its indices do not fit its shape {list(tensor.shape)}")
    cells = np.full((rows, columns), fill, values.dtype)
    cells[np.repeat(np.arange(rows), counts), col] = values
    return cells
