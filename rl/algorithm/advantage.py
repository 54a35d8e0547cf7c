"""The advantage of a completion over its group: the only signal there is."""

from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Literal

from rewards.types import Reward


def advantages(rewards: Sequence[Reward], kind: Literal["mean", "mean_std", "leave_one_out"] = "mean") -> list[float]:
    """Return the advantages of one group, in its order; they sum to 0.

    A completion whose grader crashed gets 0, and moves no other's.

    `mean`: reward minus the group's mean (Dr. GRPO, Liu et al. 2025). `mean_std`: divided by the standard deviation
    too (GRPO, Shao et al. 2024, eq. 3). `leave_one_out`: against the mean of the others (RLOO, Ahmadian et al. 2024).
    """
    counted = [reward.value for reward in rewards if reward.is_valid]
    if not counted or max(counted) == min(counted):
        return [0.0] * len(rewards)
    mean = fmean(counted)
    scale = 1.0
    if kind == "mean_std":
        scale = 1 / (pstdev(counted) + 1e-6)
    elif kind == "leave_one_out":
        scale = len(counted) / (len(counted) - 1)
    return [(reward.value - mean) * scale if reward.is_valid else 0.0 for reward in rewards]
