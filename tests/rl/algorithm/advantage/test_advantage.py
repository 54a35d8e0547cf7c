"""Advantages: what a group says about its completions."""

from statistics import fmean, pstdev
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.types import MOST_REWARD, Outcome, Reward
from rl.algorithm.advantage.estimators import advantages
from rl.config import AdvantageKind

Kind = Literal["mean", "mean_std", "leave_one_out"]
KINDS: tuple[Kind, ...] = ("mean", "mean_std", "leave_one_out")
kinds = st.sampled_from(KINDS)
values = st.floats(-100, 100).map(lambda value: round(value, 3))
counted = st.builds(Reward, values, st.sampled_from([Outcome.CORRECT, Outcome.WRONG, Outcome.TIMEOUT]))
uncounted = st.builds(Reward, values, st.sampled_from([Outcome.CRASHED, Outcome.NOT_APPLICABLE]))
groups = st.lists(counted | uncounted, max_size=16)


@given(groups, kinds)
def test_advantages_sum_to_zero(rewards: list[Reward], kind: Kind) -> None:
    assert sum(advantages(rewards, kind)) == pytest.approx(0, abs=1e-6)


@given(groups, kinds)
def test_a_completion_that_does_not_count_moves_nobody(rewards: list[Reward], kind: Kind) -> None:
    among_all = advantages(rewards, kind)
    assert len(among_all) == len(rewards)
    assert all(a == 0 for a, reward in zip(among_all, rewards, strict=True) if not reward.is_valid)
    assert [a for a, reward in zip(among_all, rewards, strict=True) if reward.is_valid] == advantages(
        [reward for reward in rewards if reward.is_valid], kind
    )


@given(values, st.integers(1, 16), kinds)
def test_a_group_of_equals_carries_no_signal(value: float, size: int, kind: Kind) -> None:
    assert advantages([Reward(value, Outcome.WRONG)] * size, kind) == [0.0] * size


@pytest.mark.parametrize("kind", [*KINDS, "maxrl", "pass_at_k"])
@pytest.mark.parametrize("values", [(0.3, 0.1 + 0.2), (0.0, 1e-200), (1.0, 1 + 1e-12)])
def test_rounding_carries_no_signal_either(kind: AdvantageKind, values: tuple[float, float]) -> None:
    """Divided by their deviation, rewards that differ in the last bit would be a whole right answer apart."""
    assert advantages([Reward(value, Outcome.CORRECT) for value in values * 2], kind, 2) == [0.0] * 4


@pytest.mark.parametrize("kind", [*KINDS, "maxrl", "pass_at_k"])
def test_advantages_of_the_largest_groups_and_rewards_are_numbers(kind: AdvantageKind) -> None:
    for value, size in ((1.0, 600), (MOST_REWARD, 4)):
        rewards = [Reward(value, Outcome.CORRECT), Reward(0.0, Outcome.WRONG)] * size
        assert np.isfinite(np.asarray(advantages(rewards, kind, size), dtype=np.float32)).all()


@given(st.lists(counted, min_size=2, max_size=16), kinds)
def test_the_better_of_two_has_the_larger_advantage(rewards: list[Reward], kind: Kind) -> None:
    pairs = sorted(zip((reward.value for reward in rewards), advantages(rewards, kind), strict=True))
    assert [a for _, a in pairs] == sorted(a for _, a in pairs)


@given(st.lists(counted, min_size=2, max_size=16).filter(lambda group: len({r.value for r in group}) > 1))
def test_advantages_are_what_their_papers_say(rewards: list[Reward]) -> None:
    scores = [reward.value for reward in rewards]
    assert advantages(rewards) == pytest.approx([s - fmean(scores) for s in scores], abs=1e-9)
    standardised = [(s - fmean(scores)) / (pstdev(scores) + 1e-6) for s in scores]
    assert advantages(rewards, "mean_std") == pytest.approx(standardised, abs=1e-9)
    against_others = [s - fmean(scores[:i] + scores[i + 1 :]) for i, s in enumerate(scores)]
    assert advantages(rewards, "leave_one_out") == pytest.approx(against_others, abs=1e-9)
