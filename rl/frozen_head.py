"""Logprobs through a frozen output layer, with the gradient made in the forward pass.

For y = log softmax(W h / T)[target] the gradient is dy/dh = (W[target] - softmax(W h / T) W) / T. It needs the same
probabilities as y itself, so both come from one pass over each chunk of logits, and nothing of the size of the
vocabulary is kept or computed twice.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


def frozen_head_logprobs(
    hidden: Float[Tensor, "tokens width"],
    weight: Float[Tensor, "vocabulary width"],
    targets: Int[Tensor, " tokens"],
    temperature: float,
    chunk: int,
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
    """Logprobs of `targets` and, without gradient, the entropies of their distributions, in nats."""
    logprobs, entropies = _FrozenHead.apply(hidden, weight, targets, temperature, chunk)  # pyright: ignore[reportGeneralTypeIssues]
    return logprobs, entropies


class _FrozenHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        logprobs, entropies, gradients = [], [], []
        for h, target in zip(hidden.split(chunk), targets.split(chunk), strict=True):
            logits = (h @ weight.T).float() / temperature
            total = logits.logsumexp(-1)
            logprobs.append(logits.gather(1, target[:, None])[:, 0] - total)
            probabilities = (logits - total[:, None]).exp_()
            entropies.append(total - (probabilities * logits).sum(-1))
            if ctx.needs_input_grad[0]:
                gradients.append((weight[target] - probabilities.to(weight.dtype) @ weight) / temperature)
        if gradients:
            ctx.save_for_backward(torch.cat(gradients))
        entropy = torch.cat(entropies)
        ctx.mark_non_differentiable(entropy)
        return torch.cat(logprobs), entropy

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradients,) = ctx.saved_tensors
        return grad_outputs[0][:, None].to(gradients.dtype) * gradients, None, None, None, None
