"""Logprobs through a frozen output layer, with the gradient made in the forward pass.

For y = log softmax(W h / T)[target] the gradient is dy/dh = (W[target] - softmax(W h / T) W) / T. It needs the same
probabilities as y itself, so both come from one pass over each chunk of logits, and nothing of the size of the
vocabulary is kept or computed twice.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lora.layers.wide_head import wide_product

CHUNK_ON_CPU = 128
"""Positions whose logits exist at once: few, so that a CPU's passes over them stay near its caches."""
CHUNK = 512


def frozen_head_logprobs(
    hidden: Float[Tensor, "tokens width"],
    weight: Float[Tensor, "vocabulary width"],
    targets: Int[Tensor, " tokens"],
    temperatures: Float[Tensor, " tokens"],
    *,
    wide: bool = False,
    entropy_gradients: bool = False,
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
    """Logprobs of `targets` and the entropies of their distributions, in nats, these with gradient only on request.

    Logits are rounded to the weight's type, or float32 where they are `wide` (`lora.layers.wide_head`)."""
    logprobs, entropies = _FrozenHead.apply(hidden, weight, targets, temperatures, wide, entropy_gradients)  # pyright: ignore[reportGeneralTypeIssues]
    return logprobs, entropies


class _FrozenHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperatures: Tensor, wide: bool,
        entropy_gradients: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        chunk = max(1, min(CHUNK_ON_CPU if hidden.device.type == "cpu" else CHUNK, len(hidden)))
        parts = [part.split(chunk) for part in (hidden, targets, temperatures[:, None])]
        # All chunks are computed in the same memory: a CPU's new pages would take as long as the products.
        rounded = weight.new_empty(chunk, len(weight))
        first_buffer, second_buffer = (torch.empty_like(rounded, dtype=torch.float32) for _ in range(2))
        logprobs, entropies, gradients, slopes = [], [], [], []
        for h, target, temperature in zip(*parts, strict=True):
            r, logits = rounded[: len(h)], first_buffer[: len(h)]
            logits.copy_(wide_product(h, weight) if wide else torch.mm(h, weight.T, out=r)).div_(temperature)
            all_logprobs = torch.log_softmax(logits, -1, out=second_buffer[: len(h)])
            probabilities = torch.exp(all_logprobs, out=logits)
            logprobs.append(all_logprobs.gather(1, target[:, None])[:, 0])
            if ctx.needs_input_grad[0]:
                mean = r.copy_(probabilities) @ weight
                gradients.append((weight[target] - mean) / temperature.to(mean.dtype))
            entropies.append(-all_logprobs.mul_(probabilities).sum(-1))
            if ctx.needs_input_grad[0] and entropy_gradients:  # dH / d logit = -p (log p + H)
                slope = all_logprobs.add_(probabilities.mul_(entropies[-1][:, None])).neg_()
                slopes.append((r.copy_(slope) @ weight) / temperature.to(weight.dtype))
        if gradients:
            ctx.save_for_backward(torch.cat(gradients), *([torch.cat(slopes)] if slopes else []))
        entropy = torch.cat(entropies)
        if not entropy_gradients:
            ctx.mark_non_differentiable(entropy)
        return torch.cat(logprobs), entropy

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        gradients, *slopes = ctx.saved_tensors
        grad = grad_outputs[0][:, None].to(gradients.dtype) * gradients
        if slopes:
            grad = grad.addcmul_(grad_outputs[1][:, None].to(gradients.dtype), slopes[0])
        return grad, None, None, None, None, None
