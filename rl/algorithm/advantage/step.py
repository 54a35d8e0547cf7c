"""The advantages of a whole step: those of its groups, less what leaving the base model costs, scaled together."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
import torch

from rl.algorithm.advantage.group_scores import score_groups
from rl.algorithm.advantage.overlong import group_advantages
from rl.algorithm.batch.counted import is_counted
from rl.algorithm.batch.packing import Advantage
from rl.algorithm.metrics import Stopwatch
from rl.algorithm.objective.regularizers import kl_estimates
from rl.config import RunConfig
from rl.types import Group, Learner
from rollout.types import Completion

Penalties = Sequence[Sequence[Sequence[float]]]
"""`kl_coef` times KL(policy, base) of every token of every completion of every group; 0 where it did not write it."""


def step_advantages(
    groups: Sequence[Group], config: RunConfig, kl_P_G: Penalties | None = None
) -> list[list[Advantage]]:
    """Return the advantages of a step's groups, in their order: a number each, or one for every token."""
    penalties = kl_P_G or [None] * len(groups)
    values = [_of_group(group, config, kl) for group, kl in zip(groups, penalties, strict=True)]
    return _scaled(groups, values, config) if config.learner.advantage_scale == "batch" else values


async def kl_penalties(
    groups: Sequence[Group], config: RunConfig, learner: Learner, watch: Stopwatch
) -> Penalties | None:
    """Return what leaving the base model is to cost in rewards; None where it costs nothing there.

    It is measured between the policy that sampled and the base, or the adapter in its place (REINFORCE++, Hu et al.
    2025, eq. 9).
    """
    if config.learner.kl_in != "reward" or not config.learner.kl_coef:
        return None
    with watch.phase("base"):
        scores_P_G = await score_groups(groups, learner, "base" if config.learner.kl_reference is None else "reference")
    return [
        [_penalties(*pair, config) for pair in zip(group.completions, scores, strict=True)]
        for group, scores in zip(groups, scores_P_G, strict=True)
    ]


def kl_metrics(kl_P_G: Penalties | None) -> dict[str, float]:
    """Return the mean penalty of a completion, where there are penalties."""
    totals = [sum(tokens) for group in kl_P_G or () for tokens in group]
    return {"reward/kl_penalty": fmean(totals)} if totals else {}


def _penalties(completion: Completion, scores: Sequence[float], config: RunConfig) -> list[float]:
    base = torch.tensor(scores, dtype=torch.float64)
    log_ratio = torch.tensor(completion.logprobs, dtype=torch.float64) - base
    costs = config.learner.kl_coef * kl_estimates(log_ratio, config.learner.kl_estimator)
    return costs.tolist() if completion.loss_mask is None else (costs * torch.tensor(completion.loss_mask)).tolist()


def _of_group(group: Group, config: RunConfig, kl_G: Sequence[Sequence[float]] | None) -> list[Advantage]:
    if kl_G is None:
        return [*group_advantages(group, config)]
    if config.learner.advantage == "none":
        values = zip(group_advantages(group, config), _is_counted(group, config), kl_G, strict=True)
        return [[value - left for left in _to_come(kl)] if counts else 0.0 for value, counts, kl in values]
    pairs = zip(group.rewards, kl_G, strict=True)
    rewards = [replace(reward, value=reward.value - sum(kl)) for reward, kl in pairs]
    return [*group_advantages(replace(group, rewards=rewards), config)]


def _to_come(costs: Sequence[float]) -> list[float]:
    """Return each token's costs, and those of all after it (REINFORCE++, eq. 8)."""
    return np.cumsum(costs[::-1])[::-1].tolist()


def _scaled(groups: Sequence[Group], values: Sequence[Sequence[Advantage]], config: RunConfig) -> list[list[Advantage]]:
    """Return the advantages less their mean and over their standard deviation, both over the step's tokens.

    That is REINFORCE++, eq. 10. Completions that are not counted keep 0.
    """
    counts = [_is_counted(group, config) for group in groups]
    tokens = [
        _by_token(completion, value)
        for group, of_group, counted in zip(groups, values, counts, strict=True)
        for completion, value, is_of_step in zip(group.completions, of_group, counted, strict=True)
        if is_of_step
    ]
    flat = np.concatenate([*tokens, np.zeros(0)])
    if not len(flat) or flat.min() == flat.max():
        return [[0.0] * len(of_group) for of_group in values]
    mean, scale = flat.mean(), 1 / (flat.std() + 1e-8)
    return [
        [((np.asarray(value) - mean) * scale).tolist() if is_of_step else 0.0 for value, is_of_step in pairs]
        for pairs in (
            list(zip(of_group, counted, strict=True)) for of_group, counted in zip(values, counts, strict=True)
        )
    ]


def _by_token(completion: Completion, value: Advantage) -> np.ndarray:
    """Return the advantage of each token that the policy wrote."""
    spread = np.broadcast_to(np.asarray(value, dtype=np.float64), len(completion.token_ids))
    return spread if completion.loss_mask is None else spread[np.array(completion.loss_mask, dtype=bool)]


def _is_counted(group: Group, config: RunConfig) -> list[bool]:
    pairs = zip(group.completions, group.rewards, strict=True)
    return [is_counted(completion, reward, config.learner.truncated) for completion, reward in pairs]
