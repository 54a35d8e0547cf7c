"""The advantage of a completion over its group: the only signal there is."""

from collections.abc import Sequence
from statistics import fmean, pstdev

from rewards.types import Reward
from rl.algorithm.advantage.pass_at_k import alike, best_of_k_advantages
from rl.config import AdvantageKind


def advantages(rewards: Sequence[Reward], kind: AdvantageKind = "mean", k: int = 1) -> list[float]:
    """Return the advantages of one group, in its order; but for `none`, they sum to 0.

    A completion whose grader crashed gets 0, and moves no other's. Rewards that differ by rounding alone are equal.

    `mean`: reward minus the group's mean (Dr. GRPO, Liu et al. 2025). `mean_std`: divided by the standard deviation
    too (GRPO, Shao et al. 2024, eq. 3). `leave_one_out`: against the mean of the others (RLOO, Ahmadian et al. 2024).
    `maxrl`: divided by the mean (Tajwar et al. 2026). `pass_at_k`: for the best of `k` (Chen et al. 2025). `none`: the
    reward.

    Raises:
        ValueError: a reward is below 0, and `maxrl` divides by their mean.
    """
    counted = [reward.value for reward in rewards if reward.is_valid]
    if kind == "none":
        return [reward.value if reward.is_valid else 0.0 for reward in rewards]
    if not counted or alike(counted):
        return [0.0] * len(rewards)
    values = iter(_compared(counted, kind, k))
    return [next(values) if reward.is_valid else 0.0 for reward in rewards]


def _compared(rewards: Sequence[float], kind: AdvantageKind, k: int) -> list[float]:
    if kind == "pass_at_k":
        return best_of_k_advantages(rewards, k)
    mean = fmean(rewards)
    scale = 1.0
    if kind == "mean_std":
        scale = 1 / (pstdev(rewards) + 1e-6)
    elif kind == "leave_one_out":
        scale = len(rewards) / (len(rewards) - 1)
    elif kind == "maxrl":
        if min(rewards) < 0:
            raise ValueError(
                f'learner.advantage = "maxrl" divides by the mean reward, and a reward is {min(rewards):g}: let '
                'rewards be at least 0, or set it to "mean"'
            )
        scale = 1 / mean
    return [(reward - mean) * scale for reward in rewards]
