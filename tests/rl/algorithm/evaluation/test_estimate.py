"""Intervals: they cover what they are of as often as they say, and are never of no width."""

import numpy as np
import pytest

from rl.algorithm.evaluation.estimate import Estimate, wilson
from rl.algorithm.evaluation.held_out import pass_at_k

DRAWS, PROBLEMS, SAMPLES = 2000, 100, 4


@pytest.mark.parametrize("k", [1, 3])
def test_an_interval_covers_the_truth_in_95_of_100_draws(k: int) -> None:
    """Problems of every difficulty, many of them always or never solved; samples of one problem go together."""
    rng = np.random.default_rng(0)
    chance_D_P = rng.beta(0.4, 0.6, (DRAWS, PROBLEMS))
    right_D_P = rng.binomial(SAMPLES, chance_D_P)
    truth = float(np.mean(1 - (1 - rng.beta(0.4, 0.6, 2_000_000)) ** k))
    by_right = [pass_at_k(SAMPLES, right, k) for right in range(SAMPLES + 1)]
    estimates = [Estimate.of([by_right[right] for right in right_P]) for right_P in right_D_P.tolist()]
    covered = np.mean([estimate.low <= truth <= estimate.high for estimate in estimates])
    assert 0.93 <= covered <= 0.97
    # As if every sample were a problem of its own: far too narrow.
    naive = [1.96 * np.sqrt(e.value * (1 - e.value) / (PROBLEMS * SAMPLES)) for e in estimates]
    assert np.mean([abs(e.value - truth) <= half for e, half in zip(estimates, naive, strict=True)]) < 0.9


@pytest.mark.parametrize("problems", [1, 2, 30, 256])
def test_none_and_all_right_leave_some_doubt_and_less_of_it_with_more_problems(problems: int) -> None:
    none, every = Estimate.of([0.0] * problems), Estimate.of([1.0] * problems)
    assert (none.value, none.low, every.value, every.high) == (0, 0, 1, 1)
    assert none.high == pytest.approx(3.8415 / (problems + 3.8415), rel=1e-4)
    assert every.low == pytest.approx(1 - none.high)


def test_equal_means_between_none_and_all_have_wilsons_interval() -> None:
    third = Estimate.of([1 / 3] * 50)
    assert (third.low, third.high) == pytest.approx(wilson(1 / 3, 50))
    assert (third.low, third.high) == pytest.approx((0.2187, 0.4714), abs=1e-3)  # of 16.67 in 50


def test_an_interval_stays_among_fractions() -> None:
    estimate = Estimate.of([1.0, *[0.0] * 9])
    assert (estimate.value, estimate.low) == (0.1, 0.0)
    assert 0.1 < estimate.high < 1
