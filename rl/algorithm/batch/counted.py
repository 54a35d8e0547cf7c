"""The completions that count as their step's: graded, and not masked because they were cut off."""

from typing import Literal

from rewards.types import Reward
from rollout.types import Completion


def is_masked(completion: Completion, truncated: Literal["learn", "mask"]) -> bool:
    """Return True for a completion that was cut off, where those are not to be learned from."""
    return truncated == "mask" and completion.finish_reason == "length"


def is_counted(completion: Completion, reward: Reward, truncated: Literal["learn", "mask"]) -> bool:
    """Return True for a completion that is of its step: it was graded, and is not masked."""
    return reward.is_valid and not is_masked(completion, truncated)
