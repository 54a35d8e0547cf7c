"""The weights that a router gives to experts, whichever they are: its formula, recognised by what it computes.

Every family scores all experts from the router's logits, takes the scores of those that it chose, and divides these by
their sum or does not. Which of these it does is seen from an answer of its own: the formula that makes the same bits of
the same logits is the router's, and one that is not among them is refused.
"""

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

GateWeights = Callable[[Float[Tensor, "tokens experts"], Int[Tensor, "tokens active"]], Float[Tensor, "tokens active"]]
"""Return the weights of any experts of each token, from the router's logits; differentiable in these."""

SCORES: tuple[Callable[[Tensor], Tensor], ...] = (
    partial(torch.softmax, dim=-1, dtype=torch.float32),
    torch.sigmoid,
    lambda logits: logits.float().sigmoid(),
)
"""Scores of all experts: Qwen's, Mixtral's, OLMoE's and DeepSeek-V2's, DeepSeek-V3's and GLM's, MiniMax's."""
ADDED = (None, 0.0, 1e-20, 1e-6)
"""Numbers that are added to the sum by which scores are divided; None divides them by nothing."""


def recognise(
    logits: Float[Tensor, "tokens experts"],
    index: Int[Tensor, "tokens active"],
    weights: Float[Tensor, "tokens active"],
    scale: float,
) -> GateWeights | None:
    """Return the formula by which a router made `weights` of `logits` for the experts `index`; None if none is known.

    `scale` is the factor that the router multiplies its weights by.
    """
    for formula in _formulas(scale, weights.dtype):
        if torch.equal(formula(logits, index), weights):
            return formula
    return None


def _formulas(scale: float, dtype: torch.dtype) -> Iterator[GateWeights]:
    yield partial(_softmax_of_chosen, dtype=dtype)
    for score, early, added in itertools.product(SCORES, (False, True), ADDED):
        yield partial(_share_of_scores, score=score, added=added, scale=scale, dtype=dtype, cast_first=early)


def _softmax_of_chosen(logits: Tensor, index: Tensor, *, dtype: torch.dtype) -> Tensor:
    """Return a softmax over the chosen experts alone, as Granite and GPT-OSS have it."""
    return logits.gather(-1, index).softmax(-1).to(dtype)


def _share_of_scores(
    logits: Tensor,
    index: Tensor,
    *,
    score: Callable[[Tensor], Tensor],
    added: float | None,
    scale: float,
    dtype: torch.dtype,
    cast_first: bool,
) -> Tensor:
    chosen = score(logits).gather(-1, index)
    if cast_first:
        chosen = chosen.to(dtype)
    if added is not None:
        chosen = chosen / (chosen.sum(-1, keepdim=True) + added)
    return (chosen * scale).to(dtype)
