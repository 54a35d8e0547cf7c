"""Completions that are too long: a penalty on the last tokens that they may have, and a mask where they were cut off.

Both are DAPO's (Yu et al. 2025, section 3.4). Rewards in metrics and samples stay as they were graded.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from rewards.types import Reward
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.counted import is_masked
from rl.config import AdvantageKind, RunConfig
from rl.types import Group
from rollout.types import Completion


def group_advantages(
    group: Group, config: RunConfig, kind: AdvantageKind | None = None, *, penalised: bool = True
) -> list[float]:
    """Return a group's advantages, in its order: over penalised rewards, and 0 for completions that are masked.

    A masked completion's reward has its part in the mean of the others all the same. They are of another `kind` than
    the configuration's where one is given.
    """
    rewards = _penalised(group, config) if penalised else group.rewards
    values = advantages(rewards, kind or config.learner.advantage, config.learner.advantage_k)
    pairs = zip(group.completions, values, strict=True)
    return [0.0 if is_masked(completion, config.learner.truncated) else value for completion, value in pairs]


def overlong_penalty(length: int, most_tokens: int, buffer: int) -> float:
    """Return 0 up to `most_tokens - buffer` tokens, from there on falling to -1 at `most_tokens` (DAPO, eq. 13)."""
    return -max(0.0, length - (most_tokens - buffer)) / buffer if buffer else 0.0


def overlong_metrics(groups: Sequence[Group], config: RunConfig) -> dict[str, float]:
    """Return the mean penalty of the rewards that count, and the fraction of completions that are masked.

    Each is there where it is configured.
    """
    graded = [pair for group in groups for pair in zip(group.completions, group.rewards, strict=True)]
    metrics: dict[str, float] = {}
    if config.learner.overlong_buffer:
        penalties = [_penalty(completion, config) for completion, reward in graded if reward.is_valid]
        metrics["reward/overlong_penalty"] = fmean(penalties) if penalties else 0.0
    if config.learner.truncated == "mask":
        masked = [is_masked(completion, config.learner.truncated) for completion, _ in graded]
        metrics["completion/masked_fraction"] = fmean(masked)
    return metrics


def _penalised(group: Group, config: RunConfig) -> list[Reward]:
    """Return a group's rewards with their penalties; `advantages` leaves out those that do not count."""
    return [
        replace(reward, value=reward.value + _penalty(completion, config))
        for completion, reward in zip(group.completions, group.rewards, strict=True)
    ]


def _penalty(completion: Completion, config: RunConfig) -> float:
    return overlong_penalty(completion.num_sampled, config.most_sampled, config.learner.overlong_buffer)
