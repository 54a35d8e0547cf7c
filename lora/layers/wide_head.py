"""An output layer whose logits are float32, though its weight and its inputs are rounded to bfloat16.

A logit of 30 has a rounding error of 0.06 in bfloat16, and a sampler and a learner round differently. Products of two
bfloat16 numbers are exact in float32, so it is enough to add them up and to keep them there (MiniMax-M1, 2025,
arXiv:2506.13585; ScaleRL, 2025, arXiv:2510.13786).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class WideHead(nn.Linear):
    """y = W x + b in float32, of a W and an x that are rounded to fewer bits."""

    def forward(self, input: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        if self.weight.requires_grad:
            y = nn.functional.linear(input.float(), self.weight.float())
        else:
            product: Any = _WideProduct.apply(input.flatten(0, -2), self.weight)
            y = product.unflatten(0, input.shape[:-1])
        bias: Tensor | None = getattr(self, "bias", None)
        return y if bias is None else y + bias.float()


def widen_head(model: nn.Module) -> None:
    """Have a model's output layer make float32 logits, if it is plain and its weight is not float32 already."""
    causal_lm: Any = model
    head = causal_lm.get_output_embeddings()
    if type(head) is nn.Linear and head.weight.dtype != torch.float32:
        head.__class__ = WideHead  # the weight stays the very tensor that the embedding may share


def wide_product(
    x: Float[Tensor, "positions d_in"], weight: Float[Tensor, "d_out d_in"]
) -> Float[Tensor, "positions d_out"]:
    """Return x W^T, added up in float32."""
    if x.is_cuda and x.dtype != torch.float32:
        return torch.mm(x, weight.T, out_dtype=torch.float32)
    return x.float() @ _widened(weight).T


def _widened(weight: Tensor) -> Tensor:
    """Return a weight in float32; the copy is kept with it, because a sampler needs it for every token."""
    if weight.dtype == torch.float32:
        return weight
    kept: tuple[int, Tensor] | None = getattr(weight, "_widened", None)
    if kept is None or kept[0] != weight._version:
        kept = weight._version, weight.detach().float()
        weight._widened = kept  # pyright: ignore[reportAttributeAccessIssue]
    return kept[1]


class _WideProduct(torch.autograd.Function):
    """Their product with a frozen weight, whose copy in float32 no graph holds."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return wide_product(x, weight)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return grad_outputs[0].to(weight.dtype) @ weight, None
