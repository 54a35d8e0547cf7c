"""Advantages of a step: for the best of k, over the mean, over the whole step, and less what leaving the base costs."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from math import comb
from statistics import fmean, pstdev
from typing import cast

import numpy as np
import pytest
from helpers.fakes import CRASHED, RIGHT, WRONG, made_groups

from lora.types import Adapter
from rewards.types import Outcome, Reward
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.advantage.overlong import group_advantages
from rl.algorithm.advantage.pass_at_k import best_of_k_advantages
from rl.algorithm.advantage.step import kl_metrics, kl_penalties, step_advantages
from rl.algorithm.batch.packing import build_batch
from rl.algorithm.metrics import Stopwatch
from rl.algorithm.sampling.refill import has_signal
from rl.config import RunConfig, replaced
from rl.types import Group, Learner

GROUPS = made_groups(1, groups=3, size=4)


def learning(**learner: object) -> RunConfig:
    return replaced(RunConfig(), learner=learner, sampling={"group_size": 4})


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("rewards", [[0, 0, 1, 0, 1], [0, 0, 0, 1], [0.5, 2, -1, 0.5, 0, 3], [1, 1, 1, 0, 1, 1]])
def test_the_best_of_k_is_a_mean_over_all_sets_of_k(rewards: list[float], k: int) -> None:
    size = min(k, len(rewards))
    sets = list(combinations(range(len(rewards)), size))
    best = [max(rewards[i] for i in chosen) for chosen in sets]
    mean, scale = fmean(best), pstdev(best)
    expected = [
        (fmean(b for b, chosen in zip(best, sets, strict=True) if i in chosen) - mean) / scale if scale else 0.0
        for i in range(len(rewards))
    ]
    assert best_of_k_advantages(rewards, k) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_with_right_and_wrong_it_is_the_published_closed_form() -> None:
    """Chen et al. 2025: of N completions, W are wrong."""
    size, wrong, k = 8, 5, 3
    mean = 1 - comb(wrong, k) / comb(size, k)
    scale = (mean * (1 - mean)) ** 0.5
    right_one = (1 - mean) / scale
    wrong_one = (1 - mean - comb(wrong - 1, k - 1) / comb(size - 1, k - 1)) / scale
    values = advantages([RIGHT] * 3 + [WRONG] * 5, "pass_at_k", k)
    assert values == pytest.approx([right_one] * 3 + [wrong_one] * 5)


def test_maxrl_divides_by_the_mean_and_the_gradient_is_that_of_the_right_ones_alone() -> None:
    """Tajwar et al. 2026: the mean score of right completions, less the mean of all."""
    rewards = [RIGHT, WRONG, WRONG, CRASHED, RIGHT, WRONG, WRONG, WRONG, WRONG]
    right, counted = 2, 8
    expected = [((reward is RIGHT) / right - 1 / counted) * counted if reward.is_valid else 0 for reward in rewards]
    assert advantages(rewards, "maxrl") == pytest.approx(expected)
    assert advantages([WRONG] * 4, "maxrl") == [0.0] * 4
    with pytest.raises(ValueError, match=r"divides by the mean reward, and a reward is -1: let rewards be at least 0"):
        advantages([RIGHT, Reward(-1.0, Outcome.WRONG)], "maxrl")


def test_without_a_comparison_the_advantage_is_the_reward() -> None:
    config = learning(advantage="none")
    alike = replace(GROUPS[0], rewards=[RIGHT] * 4)
    assert group_advantages(alike, config) == [1.0] * 4
    assert group_advantages(replace(alike, rewards=[CRASHED, RIGHT, WRONG, RIGHT]), config) == [0, 1, 0, 1]
    assert not has_signal(alike, config)
    assert has_signal(GROUPS[0], config)


def test_scaled_over_the_step_its_tokens_have_mean_0_and_deviation_1() -> None:
    """REINFORCE++, eq. 10: every token has its completion's advantage, so a long completion weighs more."""
    groups = [
        GROUPS[0],
        replace(GROUPS[1], rewards=[CRASHED, RIGHT, RIGHT, WRONG]),
        replace(GROUPS[2], rewards=[RIGHT] * 4),
    ]
    config = learning(advantage="none", advantage_scale="batch")
    flat = [
        reward.value
        for group in groups
        for completion, reward in zip(group.completions, group.rewards, strict=True)
        for _ in completion.token_ids
        if reward.is_valid
    ]
    mean, scale = fmean(flat), pstdev(flat)
    scaled = step_advantages(groups, config)
    for group, values in zip(groups, scaled, strict=True):
        expected = [(r.value - mean) / scale if r.is_valid else 0 for r in group.rewards]
        assert values == pytest.approx(expected, abs=1e-6)
    batch = build_batch(groups, scaled, 1024)
    tokens = np.concatenate([row.advantages.numpy() for row in batch.rows])
    assert len(tokens) == batch.num_tokens == len(flat)
    assert (tokens.mean(), tokens.std()) == pytest.approx((0, 1), abs=1e-5)
    alike = [replace(group, rewards=[RIGHT] * 4) for group in groups]
    assert step_advantages(alike, config) == [[0.0] * 4] * 3
    assert step_advantages(groups, learning()) == [group_advantages(group, learning()) for group in groups]


class Base:
    """Scores as a base model whose logprob of every token is its id over -10."""

    async def score(self, sequences: Sequence[Sequence[int]], *, under: Adapter | str = "policy") -> list[list[float]]:
        assert under == "base"
        return [[-token / 10 for token in sequence[1:]] for sequence in sequences]


BASE = cast("Learner", Base())


async def test_what_leaving_the_base_costs_is_taken_from_rewards_of_whole_completions() -> None:
    """RLOO, Ahmadian et al. 2024: R = r - beta log(pi / pi_ref), against the mean of the others."""
    config = learning(advantage="leave_one_out", kl_coef=0.1, kl_in="reward", kl_estimator="k1")
    costs = await kl_penalties(GROUPS, config, BASE, Stopwatch())
    assert costs is not None
    for group, values, paid in zip(GROUPS, step_advantages(GROUPS, config, costs), costs, strict=True):
        rewards = [
            reward.value - 0.1 * sum(p + token / 10 for p, token in zip(c.logprobs, c.token_ids, strict=True))
            for c, reward in zip(group.completions, group.rewards, strict=True)
        ]
        assert [sum(tokens) for tokens in paid] == pytest.approx(
            [r.value - reward for r, reward in zip(group.rewards, rewards, strict=True)]
        )
        assert values == pytest.approx([reward - (sum(rewards) - reward) / 3 for reward in rewards])
    assert kl_metrics(costs)["reward/kl_penalty"] == pytest.approx(fmean(sum(t) for g in costs for t in g))
    assert await kl_penalties(GROUPS, learning(kl_coef=0.1), BASE, Stopwatch()) is None
    assert kl_metrics(None) == {}


async def test_an_episode_without_a_turn_costs_nothing_and_is_not_asked_about() -> None:
    """Its environment failed before the policy wrote anything."""
    first = GROUPS[0].completions[0]
    empty = replace(first, token_ids=(), logprobs=())
    group = Group(GROUPS[0].problem, [1, 2, 3], [empty, first], [CRASHED, RIGHT])
    config = learning(kl_coef=0.5, kl_in="reward")
    (costs,) = await kl_penalties([group], config, BASE, Stopwatch()) or ()
    assert [len(tokens) for tokens in costs] == [0, len(first.token_ids)]
    assert await kl_penalties([replace(group, completions=[empty] * 2)], config, BASE, Stopwatch()) == [[[], []]]


async def test_without_a_comparison_each_token_pays_for_itself_and_all_after_it() -> None:
    """REINFORCE++, eq. 8; what the policy did not write costs nothing, and completions that do not count stay 0."""
    config = learning(advantage="none", kl_coef=0.5, kl_in="reward", kl_estimator="k3")
    first = GROUPS[0].completions[0]
    masked = replace(first, token_ids=(4, 5, 6), logprobs=(-1.0, 0.0, -2.0), loss_mask=(True, False, True))
    group = Group(GROUPS[0].problem, [1, 2], [masked, first], [RIGHT, CRASHED])
    costs = await kl_penalties([group], config, BASE, Stopwatch())
    assert costs is not None
    gaps = [-0.4 + 1.0, -0.6 + 2.0]
    k3 = [0.5 * (np.exp(gap) - 1 - gap) for gap in gaps]
    assert costs[0][0] == pytest.approx([k3[0], 0, k3[1]])
    ((values, uncounted),) = step_advantages([group], config, costs)
    assert values == pytest.approx([1 - k3[0] - k3[1], 1 - k3[1], 1 - k3[1]])
    assert uncounted == 0
    (row,) = build_batch([group], [[values, uncounted]], 1024).rows
    assert row.advantages.tolist() == pytest.approx([1 - k3[0] - k3[1], 1 - k3[1]])


def test_a_server_has_room_to_score_the_longest_completion_by_sampling_behind_it() -> None:
    local = learning(kl_coef=0.1, kl_in="reward")
    remote = replaced(local, server="http://localhost:1")
    assert remote.room_for_prompt + remote.sampling.max_tokens + 1 == remote.model.max_length
    others = local, replaced(remote, learner={"kl_coef": 0}), replaced(remote, learner={"kl_in": "loss"})
    assert {each.room_for_prompt for each in others} == {remote.room_for_prompt + 1}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"learner": {"kl_coef": 0.1, "kl_estimator": "k1"}},
            'kl_estimator = "k1" has no gradient on average in the loss',
        ),
        (
            {"learner": {"kl_coef": 0.1, "weights": "full"}, "rollout": {"engine": "torch"}},
            "keeps no base model beside the one that it trains",
        ),
        ({"learner": {"kl_coef": 0.1, "kl_in": "reward"}, "sampling": {"temperature": 0.8}}, "at temperature 1"),
        ({"learner": {"kl_coef": 0.1, "kl_in": "reward"}, "sampling": {"top_p": 0.8}}, "top_p to 1"),
        (
            {"learner": {"advantage": "none"}, "curriculum": {"refill_rounds": 1}},
            "refill_rounds has nothing to replace",
        ),
        ({"learner": {"advantage": "maxrl", "overlong_buffer": 5}}, "overlong_buffer = 0"),
        ({"learner": {"advantage": "pass_at_k", "advantage_k": 9}}, "advantage_k = 9 is above sampling.group_size = 8"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        replaced(RunConfig(), **changes)
