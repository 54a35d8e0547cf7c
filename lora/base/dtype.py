"""The type of a base model's weights and activations, where the configuration leaves it open."""

from typing import Literal

import torch

from lora.config import ModelConfig

Dtype = Literal["bfloat16", "float32"]
UNITS = ("avx512_bf16", "amx_bf16", "bf16")
"""Instructions for products in bfloat16, by torch's names: the last one is ARM's."""


def dtype_name(model: ModelConfig) -> Dtype:
    """Return the type of the model's weights; "auto" is the one that this process computes fastest in."""
    return fastest_dtype() if model.dtype == "auto" else model.dtype


def torch_dtype(model: ModelConfig) -> torch.dtype:
    """Return `dtype_name` as torch's type."""
    dtype: torch.dtype = getattr(torch, dtype_name(model))
    return dtype


def fastest_dtype(*, gpu: bool = True) -> Dtype:
    """Return bfloat16 if this process has a GPU, or a processor that multiplies in it, and else float32.

    With `gpu` False, its GPU does not count.
    """
    return "bfloat16" if (gpu and torch.cuda.is_available()) or multiplies_bfloat16() else "float32"


def multiplies_bfloat16() -> bool:
    """Return True if this processor has instructions for products in bfloat16.

    Without them such a product takes several times as long as in float32 (docs/speed.md).
    """
    capabilities = getattr(torch.cpu, "get_capabilities", dict[str, bool])()  # torch 2.11 may lack it
    return any(capabilities.get(name, False) for name in UNITS)


def emulates_bfloat16(dtype: torch.dtype, device: str) -> bool:
    """Return True for bfloat16 on a processor without it."""
    return device == "cpu" and dtype is torch.bfloat16 and not multiplies_bfloat16()
