"""Policy-gradient objectives, elementwise: a loss for every completion token.

`log_ratio` is always policy minus rollout logprobs, the sampler's own logprobs being the denominator. On policy (ratio
1) all of them have the gradient of REINFORCE, -A grad log p. Summing and dividing by the step's token count is left to
the caller, so that microbatches add up to the full batch exactly.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rl.config import LearnerConfig

PerToken = Float[Tensor, " targets"]
Objective = Callable[[PerToken, PerToken, Int[Tensor, " targets"], LearnerConfig], PerToken]


def importance(log_ratio: PerToken, advantages: PerToken, _: Tensor, config: LearnerConfig) -> PerToken:
    """Truncated importance sampling per token: weight min(p_policy / p_rollout, C), held constant."""
    weight = log_ratio.detach().exp().clamp(max=config.max_ratio)
    return -weight * advantages * _one_with_gradient(log_ratio)


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


def gspo(log_ratio: PerToken, advantages: PerToken, sequence_ids: Tensor, config: LearnerConfig) -> PerToken:
    """One ratio a sequence, its tokens' geometric mean, clipped (GSPO, Zheng et al. 2025, eq. 14)."""
    mean = _sequence_means(log_ratio.detach(), sequence_ids)
    return ppo(mean + log_ratio - log_ratio.detach(), advantages, sequence_ids, config)


def cross_entropy(log_ratio: PerToken, advantages: PerToken, _: Tensor, config: LearnerConfig) -> PerToken:
    """-log p, weighted: for completions that were given, whose rollout logprobs are 0 (see `rl.demonstrations`)."""
    return -advantages * log_ratio


OBJECTIVES: dict[str, Objective] = {
    "importance": importance,
    "reinforce": reinforce,
    "ppo": ppo,
    "cispo": cispo,
    "gspo": gspo,
    "cross_entropy": cross_entropy,
}


def clipped(log_ratio: PerToken, advantages: PerToken, sequence_ids: Tensor, config: LearnerConfig) -> Tensor:
    """Which tokens' ratio was truncated or clipped, for `update/clip_fraction`."""
    ratio = (_sequence_means(log_ratio, sequence_ids) if config.objective == "gspo" else log_ratio).exp()
    if config.objective in ("reinforce", "cross_entropy"):
        return torch.zeros_like(ratio, dtype=torch.bool)
    if config.objective == "importance":
        return ratio > config.max_ratio
    if config.objective == "cispo":
        return (ratio > config.max_ratio) | (ratio < 1 - config.clip_low)
    above = (ratio > 1 + config.clip_high) & (advantages > 0)
    return above | ((ratio < 1 - config.clip_low) & (advantages < 0))


def _sequence_means(log_ratio: PerToken, sequence_ids: Tensor) -> PerToken:
    """Of each token, the mean of its sequence."""
    sums = log_ratio.new_zeros(int(sequence_ids.max()) + 1)
    count = torch.zeros_like(sums).index_add_(0, sequence_ids, torch.ones_like(log_ratio))
    return (sums.index_add_(0, sequence_ids, log_ratio) / count.clamp(min=1))[sequence_ids]


def _one_with_gradient(log_ratio: PerToken) -> PerToken:
    """1, with the gradient of log p."""
    return 1 + log_ratio - log_ratio.detach()
