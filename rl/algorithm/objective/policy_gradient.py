"""Policy-gradient objectives, elementwise: a loss for every completion token.

`log_ratio` is always policy minus rollout logprobs, the sampler's own logprobs being the denominator. On policy (ratio
1) all of them have the gradient of REINFORCE, -A grad log p, `gspo` divided by the sequence's length. `aggregated`
weighs tokens as `learner.aggregation` says. Summing and dividing by the step's `divisor` is left to the caller, so that
microbatches and learners add up to the full batch exactly; each must hold sequences whole.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rl.algorithm.objective.importance_weights import WEIGHTS, Weigh, sequence_sums
from rl.config import LearnerConfig
from rl.types import TrainBatch

PerToken = Float[Tensor, " targets"]
IsClipped = Bool[Tensor, " targets"]
SequenceIds = Int[Tensor, " targets"]
Objective = Callable[[PerToken, PerToken, SequenceIds, LearnerConfig], PerToken]


def importance_sampling(weigh: Weigh) -> Objective:
    """Return the objective that has such weights, held constant; without a bound it is the unbiased one (Precup et al.
    2000)."""

    def weighed(
        log_ratio: PerToken, advantages: PerToken, sequence_ids: SequenceIds, config: LearnerConfig
    ) -> PerToken:
        return -weigh(log_ratio.detach(), sequence_ids, config) * advantages * _one_with_gradient(log_ratio)

    return weighed


def reinforce(log_ratio: PerToken, advantages: PerToken, _: Tensor, config: LearnerConfig) -> PerToken:
    """Plain policy gradient (Williams 1992): right only on policy."""
    return -advantages * _one_with_gradient(log_ratio)


def ppo(log_ratio: PerToken, advantages: PerToken, _: Tensor, config: LearnerConfig) -> PerToken:
    """Clipped surrogate (Schulman et al. 2017, eq. 7) with a separate upper clip (DAPO, Yu et al. 2025)."""
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def cispo(log_ratio: PerToken, advantages: PerToken, _: Tensor, config: LearnerConfig) -> PerToken:
    """The clipped ratio is a constant weight, so clipped tokens still teach (MiniMax-M1, 2025, eq. 4)."""
    weight = log_ratio.detach().exp().clamp(1 - config.clip_low, config.max_ratio)
    return -weight * advantages * _one_with_gradient(log_ratio)


def gspo(log_ratio: PerToken, advantages: PerToken, sequence_ids: SequenceIds, config: LearnerConfig) -> PerToken:
    """A sequence's min(s A, clip(s) A), divided among its tokens: s = (p_policy / p_rollout)^(1 / length), the
    geometric mean of its tokens' ratios (GSPO, Zheng et al. 2025, eq. 5 to 7)."""
    ratio = _sequence_means(log_ratio, sequence_ids).exp()
    clipped = ratio.clamp(1 - config.gspo_clip_low, 1 + config.gspo_clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages) / _lengths(sequence_ids, like=ratio)


def cross_entropy(log_ratio: PerToken, advantages: PerToken, _: Tensor, config: LearnerConfig) -> PerToken:
    """-log p, weighted: for given completions, whose rollout logprobs are 0 (see `batch.demonstrations`)."""
    return -advantages * log_ratio


OBJECTIVES: dict[str, Objective] = {
    **{name: importance_sampling(weigh) for name, weigh in WEIGHTS.items()},
    "reinforce": reinforce,
    "ppo": ppo,
    "cispo": cispo,
    "gspo": gspo,
    "cross_entropy": cross_entropy,
}


def aggregation(config: LearnerConfig) -> Literal["token", "sequence", "constant"]:
    """Return the mean that a step's loss is, with `auto` resolved."""
    if config.aggregation != "auto":
        return config.aggregation
    return "sequence" if config.objective == "gspo" else "token"


def aggregated(losses: PerToken, sequence_ids: SequenceIds, config: LearnerConfig) -> PerToken:
    """Return the losses of an objective, weighted so that their sum divided by `divisor` is the mean asked for."""
    is_shared, is_divided = aggregation(config) == "sequence", config.objective == "gspo"
    if is_shared == is_divided:  # `gspo` divides among a sequence's tokens by itself
        return losses
    lengths = _lengths(sequence_ids, like=losses)
    return losses / lengths if is_shared else losses * lengths


def shared(losses: PerToken, sequence_ids: SequenceIds, config: LearnerConfig) -> PerToken:
    """Return losses that nothing has divided yet, weighed so that their sum over `divisor` is the mean asked for."""
    return losses / _lengths(sequence_ids, like=losses) if aggregation(config) == "sequence" else losses


def divisor(batch: TrainBatch, config: LearnerConfig) -> int:
    """Return the divisor of a step's summed loss: its tokens, its completions, or a constant for each of these."""
    match aggregation(config):
        case "token":
            return batch.num_tokens
        case "sequence":
            return batch.num_sequences
        case "constant":
            assert batch.most_tokens, "the batch does not say how long a completion may be"
            return batch.num_sequences * batch.most_tokens


def clipped(log_ratio: PerToken, advantages: PerToken, sequence_ids: SequenceIds, config: LearnerConfig) -> IsClipped:
    """Return which ratios were truncated, clipped or masked, for `update/clip_fraction`.

    `gspo` and the two sequence-level ones do so with whole completions.
    """
    if config.objective == "gspo":
        ratio = _sequence_means(log_ratio, sequence_ids).exp()
        return _outside(ratio, advantages, config.gspo_clip_low, config.gspo_clip_high)
    ratio = log_ratio.exp()
    if config.objective in ("reinforce", "cross_entropy"):
        return torch.zeros_like(ratio, dtype=torch.bool)
    if config.objective in ("sequence_importance", "sequence_mis"):
        return sequence_sums(log_ratio, sequence_ids).exp() > config.max_ratio
    if config.objective in ("importance", "mis"):
        return ratio > config.max_ratio
    if config.objective == "icepop":
        return (ratio < config.icepop_low) | (ratio > config.icepop_high)
    if config.objective == "cispo":
        return (ratio > config.max_ratio) | (ratio < 1 - config.clip_low)
    return _outside(ratio, advantages, config.clip_low, config.clip_high)


def _outside(ratio: PerToken, advantages: PerToken, low: float, high: float) -> IsClipped:
    """Return where the clipped side of the surrogate is the smaller one, so that nothing is learned."""
    return ((ratio > 1 + high) & (advantages > 0)) | ((ratio < 1 - low) & (advantages < 0))


def _sequence_means(values: PerToken, sequence_ids: SequenceIds) -> PerToken:
    """Return for each token the mean of its sequence, with gradient."""
    return sequence_sums(values, sequence_ids) / _lengths(sequence_ids, like=values)


def _lengths(sequence_ids: SequenceIds, *, like: PerToken) -> PerToken:
    """Return for each token how many tokens its sequence has."""
    return sequence_sums(torch.ones_like(like), sequence_ids)


def _one_with_gradient(log_ratio: PerToken) -> PerToken:
    """Return 1, with the gradient of log p."""
    return 1 + log_ratio - log_ratio.detach()
