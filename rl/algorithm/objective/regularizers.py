"""Terms that are added to an objective for every token: a penalty for leaving the base model, a bonus for entropy.

Both count for all of a step's completions, also those without a signal, and are weighed as `learner.aggregation` says.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rl.config import LearnerConfig

PerToken = Float[Tensor, " targets"]


def needs_base(config: LearnerConfig) -> bool:
    """Return True if the loss compares the policy with the base model."""
    return config.kl_coef > 0 and config.kl_in == "loss"


def regularizes(config: LearnerConfig) -> bool:
    """Return True if a token without an advantage has a loss all the same."""
    return needs_base(config) or config.entropy_coef > 0


def kl_estimates(log_ratio: PerToken, estimator: str) -> PerToken:
    """Return estimates of KL(policy || base) from tokens of the policy's own (Schulman 2020).

    `log_ratio` is policy minus base. `k1` is unbiased and may be negative, `k2` is half its square, and `k3` is
    unbiased and never negative: the KL term of GRPO (Shao et al. 2024, eq. 4).
    """
    match estimator:
        case "k1":
            return log_ratio
        case "k2":
            return log_ratio.square() / 2
        case _:
            return torch.exp(-log_ratio) - 1 + log_ratio


def penalties(logprobs: PerToken, base: PerToken | None, entropies: PerToken, config: LearnerConfig) -> PerToken:
    """Return `kl_coef` KL - `entropy_coef` H of each token, with gradient; `base` are logprobs under the base model.

    As in GRPO, the KL term has no importance weight: it is right for tokens of the policy's own.
    """
    total = -config.entropy_coef * entropies
    if base is None or not needs_base(config):
        return total
    return total + config.kl_coef * kl_estimates(logprobs - base, config.kl_estimator)
