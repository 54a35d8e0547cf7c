"""LoRA products for vLLM on a GPU, that its compiler sees: one thin product a layer, and a sum that it fuses.

vLLM's own kernels are made for many adapters of high ranks, and launch a grid for each slice and adapter. Here a
layer's matrices lie side by side (see `joined_lora`): a product with as many columns as there are ranks, a mask that
keeps of it what is a row's own, and a sum of outer products that is added where the layer's output is written or read
anyway. What vLLM captures into CUDA graphs is the same for every batch: rows without an adapter are masked, too.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA

from rollout.vllm.patches.joined_lora import join, padded

MULTIPLE = 8
"""Columns that the thin product is filled up to: GPUs read 16 bytes at a time."""
MOST_UNROLLED = 16
"""Columns up to which the second product is written as a sum, which the compiler fuses with what is around it."""


def install() -> None:
    """Make linear layers with adapters compute so in engines that start in this process from now on."""
    layer: Any = BaseLinearLayerWithLoRA
    layer.set_mapping = _set_mapping
    layer._apply_lora_to_output = _apply_lora_to_output


def _set_mapping(self: Any, punica_wrapper: Any) -> None:
    """Join the layer's matrices, as it is given what says which row has which adapter."""
    self.punica_wrapper = punica_wrapper
    A, B = join(self.lora_a_stacked, self.lora_b_stacked, multiple=MULTIPLE)
    self.joined_a, self.joined_b = padded(A, MULTIPLE), B.flatten(0, 1)
    self.joined_slots = torch.arange(len(A), device=A.device).repeat_interleave(A.shape[1])


def _apply_lora_to_output(self: Any, x: Tensor, output: Tensor) -> Tensor:
    rows, sums = x.view(-1, x.shape[-1]), output.view(-1, output.shape[-1])
    adapters = self.punica_wrapper._token_lora_indices[: rows.shape[0]]
    return add(sums, rows, self.joined_a, self.joined_b, adapters, self.joined_slots).view(output.shape)


def add(
    y: Float[Tensor, "rows d_out"],
    x: Float[Tensor, "rows d_in"],
    A: Float[Tensor, "padded d_in"],
    B: Float[Tensor, "columns d_out"],
    adapters: Int[Tensor, " rows"],
    slots: Int[Tensor, " columns"],
) -> Float[Tensor, "rows d_out"]:
    """Return y + x A^T B of each row's own adapter, with x A^T in the activations' precision, as in the learner."""
    columns = len(B)
    shrunk = (x @ A.T)[:, :columns].where(adapters[:, None] == slots, 0)
    if columns > MOST_UNROLLED or not torch.compiler.is_compiling():
        return torch.addmm(y, shrunk, B)
    delta = shrunk[:, :1].float() * B[0]
    for column in range(1, columns):
        delta = delta + shrunk[:, column : column + 1].float() * B[column]
    return (y + delta).to(y.dtype)
