"""Advantages for the best of k answers instead of for each one."""

from collections.abc import Sequence
from math import comb, isclose, sqrt


def best_of_k_advantages(rewards: Sequence[float], k: int) -> list[float]:
    """Return advantages that raise the expected best reward of `k` completions (Chen et al. 2025, "Pass@k Training").

    Any k of the completions are a set whose reward is its best one's. A completion's advantage is the mean, over the
    sets that it is in, of the set's reward, less the mean over all sets and divided by their standard deviation. With
    rewards of 0 and 1 that is their analytical derivation; `k` is bounded by the number of completions.
    """
    size, ordered = len(rewards), sorted(rewards)
    k = min(k, size)
    sets = comb(size, k)
    shares = [comb(i, k - 1) / sets for i in range(size)]  # of the sets whose best is the i-th from below
    mean = sum(share * reward for share, reward in zip(shares, ordered, strict=True))
    variance = sum(share * (reward - mean) ** 2 for share, reward in zip(shares, ordered, strict=True))
    # The worst set is as good as the best one, but for rounding; or of so many sets next to none is worse.
    if alike([ordered[k - 1], ordered[-1]]) or not variance:
        return [0.0] * size
    values = {reward: (_mean_with(reward, ordered, k) - mean) / sqrt(variance) for reward in set(rewards)}
    return [values[reward] for reward in rewards]


def alike(rewards: Sequence[float]) -> bool:
    """Return True if rewards are the same but for rounding, as of sums that were added in another order."""
    return isclose(min(rewards), max(rewards), rel_tol=1e-9, abs_tol=1e-12)


def _mean_with(reward: float, ordered: Sequence[float], k: int) -> float:
    """Return the mean reward of the sets of k that a completion with `reward` is in."""
    if k == 1:
        return reward
    others = list(ordered)
    others.remove(reward)
    sets = comb(len(others), k - 1)
    return sum(comb(i, k - 2) / sets * max(reward, value) for i, value in enumerate(others))
