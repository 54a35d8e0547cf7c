"""Tensors and a few facts about them as one safetensors file, and back, whoever wrote the file."""

import json
from collections.abc import Mapping
from typing import Any, cast

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from lora.messages import single_line


def pack_tensors(tensors: Mapping[str, Tensor], key: str, facts: Mapping[str, Any]) -> bytes:
    """Return a safetensors file with the facts in its header, as JSON under that key: the same bytes every time."""
    return _with_sorted_header(safetensors.torch.save(dict(tensors), metadata={"format": "pt", key: json.dumps(facts)}))


def unpack_tensors(payload: bytes, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Take apart what `pack_tensors` made. Raises ValueError if the file is damaged, or has no such facts in it."""
    tensors = load_tensors(payload)
    header, _ = _header(payload)
    if key not in header.get("__metadata__", {}):
        raise ValueError(f"it is another program's: its header has no {key!r}")
    return tensors, parse_object(header["__metadata__"][key], f"its header's {key!r}")


def load_tensors(payload: bytes) -> dict[str, Tensor]:
    """Return a safetensors file's tensors. Raises ValueError if it is damaged."""
    try:
        return safetensors.torch.load(payload)
    except (SafetensorError, KeyError) as error:  # KeyError: numbers of a type that torch does not have
        raise ValueError(f"it is no whole safetensors file ({single_line(error, 200)})") from None


def parse_object(text: str | bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object. Raises ValueError, calling it `what`, for everything else."""
    try:
        value: object = json.loads(text)
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{what} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no JSON object")
    return cast("dict[str, Any]", value)


def _with_sorted_header(payload: bytes) -> bytes:
    """Sort the header: safetensors writes its metadata in another order every time, and adapters are named by their
    bytes."""
    header, tensors = _header(payload)
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + payload[tensors:]


def _header(payload: bytes) -> tuple[dict[str, Any], int]:
    """Return a whole safetensors file's header, and where its tensors begin. The library reads it from files alone."""
    end = 8 + int.from_bytes(payload[:8], "little")
    return json.loads(payload[8:end]), end
