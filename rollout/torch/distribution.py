"""The distribution that a token is drawn from, in plain torch: temperature, then min-p, top-k and top-p, as in vLLM."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rollout.config import SamplingConfig
from rollout.types import TopLogprobs


def token_logprobs(
    logits: Float[Tensor, "rows vocabulary"], sampling: SamplingConfig
) -> Float[Tensor, "rows vocabulary"]:
    """Return every token's logprob, in float64; -inf for those that cannot be drawn.

    Greedily there is nothing to draw, and the logprobs are the model's own, at temperature 1.
    """
    if sampling.temperature == 0:
        return logits.double().log_softmax(-1)
    return truncate(logits.double() / sampling.temperature, sampling).log_softmax(-1)


def truncate(logits: Float[Tensor, "rows vocabulary"], sampling: SamplingConfig) -> Float[Tensor, "rows vocabulary"]:
    """Return the logits with -inf for the tokens that `min_p`, `top_k` and `top_p` leave out, one after the other."""
    if sampling.min_p > 0:
        probabilities = logits.softmax(-1)
        least = sampling.min_p * probabilities.amax(-1, keepdim=True)
        logits = logits.masked_fill(probabilities < least, -math.inf)
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -math.inf)  # ties stay, as in vLLM
    if sampling.top_p < 1:
        ascending, order = logits.sort(-1)
        # A token is left out if it and all that are less likely have no more than what may be cut off.
        cut = ascending.softmax(-1).cumsum(-1) <= 1 - sampling.top_p
        cut[:, -1] = False
        logits = logits.masked_fill(torch.zeros_like(cut).scatter(-1, order, cut), -math.inf)
    return logits


def draw(logprobs: Float[Tensor, "rows vocabulary"], numbers: Float[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """Return each row's token, by inverting its cumulative distribution at its number, which is in [0, 1)."""
    cumulative = logprobs.exp().cumsum(-1)
    # Never at 0, which a leading token of probability 0 would reach.
    target = (numbers[:, None] * cumulative[:, -1:]).clamp_(min=torch.finfo(cumulative.dtype).tiny)
    return torch.searchsorted(cumulative, target)[:, 0]


def likeliest(logprobs: Float[Tensor, "rows vocabulary"], count: int) -> list[TopLogprobs]:
    """Return each row's `count` likeliest tokens, the likeliest first; fewer where fewer can be drawn."""
    values, tokens = logprobs.topk(min(count, logprobs.shape[-1]))
    return [
        tuple((token, value) for token, value in zip(*row, strict=True) if value > -math.inf)
        for row in zip(tokens.tolist(), values.tolist(), strict=True)
    ]
