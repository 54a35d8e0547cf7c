"""LoRA products for vLLM on a CPU: one small dense product per adapter and layer.

vLLM's own CPU operators gather a copy of the adapter's matrices for every token. The rows of one adapter are one
matrix, and a batch holds one adapter or two, so multiplying once per adapter does the same work without the copies.
It plugs in where the platform names its wrapper class (`get_punica_wrapper`).
"""

from typing import Any

import torch
from torch import Tensor
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms import current_platform

Segments = list[tuple[int, Tensor | None]]
"""An adapter's slot, and the batch's rows that use it; None stands for every row."""


def install() -> None:
    """Make vLLM use `GroupedLoraCPU` in this process."""
    name = f"{GroupedLoraCPU.__module__}.{GroupedLoraCPU.__qualname__}"
    type(current_platform).get_punica_wrapper = classmethod(lambda cls: name)  # pyright: ignore[reportAttributeAccessIssue]


class GroupedLoraCPU(PunicaWrapperCPU):
    """Multiplies the rows of each adapter at once, in float32, as vLLM's GPU kernels accumulate."""

    token_segments: Segments
    sampler_segments: Segments

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """Once a batch: note which rows belong to which adapter."""
        super().update_metadata(*args, **kwargs)
        self.token_segments = segments(self.token_lora_indices)
        self.sampler_segments = segments(self.sampler_indices)

    def add_lora_linear(
        self,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: tuple[Tensor, ...],
        lora_b_stacked: tuple[Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        **_: Any,
    ) -> None:
        """y[rows, slice] += x[rows] A^T B^T scale, for every slice of a fused layer and every adapter."""
        x, y = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        start = 0
        for A, B, size in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
            for slot, rows in self.token_segments:
                _add(y[:, start : start + size], x, A[slot, 0], B[slot, 0], scale, rows)
            start += size

    def add_lora_logits(
        self, y: Tensor, x: Tensor, lora_a_stacked: Tensor, lora_b_stacked: Tensor, scale: float, **_: Any
    ) -> None:
        """The same for an adapted output layer. vLLM calls it for every adapter; most leave that layer as it is."""
        x, y = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        for slot, rows in self.sampler_segments:
            if not lora_b_stacked[slot].any():
                continue
            _add(y, x, lora_a_stacked[slot, 0], lora_b_stacked[slot, 0], scale, rows)


def segments(indices: Tensor) -> Segments:
    """Rows by slot. A slot below 0 means the base model alone: nothing to add."""
    slots = torch.unique(indices).tolist()
    if len(slots) == 1:
        return [(slots[0], None)] if slots[0] >= 0 else []
    return [(slot, (indices == slot).nonzero().squeeze(1)) for slot in slots if slot >= 0]


def _add(y: Tensor, x: Tensor, A: Tensor, B: Tensor, scale: float, rows: Tensor | None) -> None:
    """Rows of x and y may be padded to different lengths, and so may the vocabulary: the shorter one counts.

    x A^T is rounded to the activations' precision, as it is in the learner; the sum is accumulated in float32.
    """
    width = min(len(B), y.shape[1])
    if rows is None:
        count = min(len(x), len(y))
        y[:count, :width].addmm_(x[:count] @ A.T, B[:width].T, alpha=scale)
    else:
        y[rows, :width] += (x[rows] @ A.T) @ B[:width].T * scale
