"""Weights for tokens that another policy sampled, by the ratio of two policies' probabilities: truncated or masked.

`log_ratio` is without gradient, and a weight is a constant. What is masked has weight 0: it teaches nothing.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rl.config import LearnerConfig

PerToken = Float[Tensor, " targets"]
SequenceIds = Int[Tensor, " targets"]
Weigh = Callable[[PerToken, SequenceIds, LearnerConfig], PerToken]


def truncated(log_ratio: PerToken, _: Tensor, config: LearnerConfig) -> PerToken:
    """Return min(ratio, C) of each token (Yao et al. 2025)."""
    return log_ratio.exp().clamp(max=config.max_ratio)


def masked(log_ratio: PerToken, _: Tensor, config: LearnerConfig) -> PerToken:
    """Return each token's ratio, and 0 above C (Liu, Li et al. 2025, "When Speed Kills Stability")."""
    weight = log_ratio.exp()
    return _where_kept(weight, weight <= config.max_ratio)


def within(log_ratio: PerToken, _: Tensor, config: LearnerConfig) -> PerToken:
    """Return each token's ratio, and 0 below or above the range (IcePop: Ling team 2025)."""
    weight = log_ratio.exp()
    return _where_kept(weight, (weight >= config.icepop_low) & (weight <= config.icepop_high))


def truncated_product(log_ratio: PerToken, sequence_ids: SequenceIds, config: LearnerConfig) -> PerToken:
    """Return min(product of a completion's ratios, C) for each of its tokens (Liu, Li et al. 2025, as `masked`)."""
    return sequence_sums(log_ratio, sequence_ids).exp().clamp(max=config.max_ratio)


def masked_product(log_ratio: PerToken, sequence_ids: SequenceIds, config: LearnerConfig) -> PerToken:
    """Return the product of a completion's ratios for each of its tokens, and 0 above C (same source)."""
    weight = sequence_sums(log_ratio, sequence_ids).exp()
    return _where_kept(weight, weight <= config.max_ratio)


WEIGHTS: dict[str, Weigh] = {
    "importance": truncated,
    "mis": masked,
    "icepop": within,
    "sequence_importance": truncated_product,
    "sequence_mis": masked_product,
}
"""The weights of the objectives that are a weight times -A log p, by the objectives' names."""


def sampler_weights(log_ratio: PerToken, sequence_ids: SequenceIds, config: LearnerConfig) -> PerToken:
    """Return the weights with which an objective corrects for the sampler; truncated ones, where it is no weight."""
    return WEIGHTS.get(config.objective, truncated)(log_ratio, sequence_ids, config)


def sequence_sums(values: PerToken, sequence_ids: SequenceIds) -> PerToken:
    """Return for each token the sum over its sequence, with gradient."""
    sums = values.new_zeros(int(sequence_ids.max()) + 1)
    return sums.index_add(0, sequence_ids, values)[sequence_ids]


def _where_kept(weight: PerToken, kept: Bool[Tensor, " targets"]) -> PerToken:
    """Return the weights, and 0 where they are not kept: an infinite one times 0 would be NaN."""
    return torch.where(kept, weight, 0.0)
