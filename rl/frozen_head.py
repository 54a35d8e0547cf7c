"""Logprobs through a frozen output layer, with the gradient made in the forward pass.

For y = log softmax(W h / T)[target] the gradient is dy/dh = (W[target] - softmax(W h / T) W) / T. It needs the same
probabilities as y itself, so both come from one pass over each chunk of logits, and nothing of the size of the
vocabulary is kept or computed twice.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK_ON_CPU = 64
"""Positions whose logits exist at once: few, so that a CPU's passes over them stay near its caches."""
CHUNK = 512


def frozen_head_logprobs(
    hidden: Float[Tensor, "tokens width"],
    weight: Float[Tensor, "vocabulary width"],
    targets: Int[Tensor, " tokens"],
    temperatures: Float[Tensor, " tokens"],
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
    """Logprobs of `targets` and, without gradient, the entropies of their distributions, in nats."""
    logprobs, entropies = _FrozenHead.apply(hidden, weight, targets, temperatures)  # pyright: ignore[reportGeneralTypeIssues]
    return logprobs, entropies


class _FrozenHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperatures: Tensor
    ) -> tuple[Tensor, Tensor]:
        chunk = CHUNK_ON_CPU if hidden.device.type == "cpu" else CHUNK
        parts = [part.split(chunk) for part in (hidden, targets, temperatures[:, None])]
        logprobs, entropies, gradients = [], [], []
        for h, target, temperature in zip(*parts, strict=True):
            all_logprobs = (h @ weight.T).float().div_(temperature).log_softmax(-1)
            probabilities = all_logprobs.exp()
            logprobs.append(all_logprobs.gather(1, target[:, None])[:, 0])
            entropies.append(-torch.linalg.vecdot(probabilities, all_logprobs))
            if ctx.needs_input_grad[0]:
                mean = probabilities.to(weight.dtype) @ weight
                gradients.append((weight[target] - mean) / temperature.to(mean.dtype))
        if gradients:
            ctx.save_for_backward(torch.cat(gradients))
        entropy = torch.cat(entropies)
        ctx.mark_non_differentiable(entropy)
        return torch.cat(logprobs), entropy

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (gradients,) = ctx.saved_tensors
        return grad_outputs[0][:, None].to(gradients.dtype) * gradients, None, None, None
