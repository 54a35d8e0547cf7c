"""Overlong completions: the published penalty, and a mask that leaves no trace of what was cut off but its reward."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.fakes import CRASHED, RIGHT, WRONG, made_groups
from helpers.torch_learner import TorchLearner

from lora.config import LoraConfig, ModelConfig
from rewards.types import Reward
from rl.algorithm.advantage.overlong import group_advantages, overlong_metrics, overlong_penalty
from rl.algorithm.batch.packing import build_batch
from rl.algorithm.metrics import Stopwatch
from rl.algorithm.sampling.prefetch import Rollout
from rl.config import RunConfig, replaced
from rl.launch.sft_recipe import SFT
from rl.train import learn
from rl.types import Group, TrainBatch
from rollout.types import Completion

MASK = replaced(RunConfig(), learner={"truncated": "mask"}, sampling={"max_tokens": 100})
PENALTY = replaced(RunConfig(), learner={"overlong_buffer": 20}, sampling={"max_tokens": 100})


def written(length: int, *, cut: bool = False, token: int = 5) -> Completion:
    return Completion((token,) * length, (-1.0,) * length, "", "length" if cut else "stop", 0)


def group(completions: Sequence[Completion], rewards: Sequence[Reward]) -> Group:
    return replace(made_groups(0, groups=1)[0], completions=list(completions), rewards=list(rewards))


# --- the penalty ---


@pytest.mark.parametrize(
    ("length", "penalty"), [(1, 0.0), (79, 0.0), (80, 0.0), (81, -0.05), (90, -0.5), (99, -0.95), (100, -1.0)]
)
def test_the_penalty_is_the_published_one(length: int, penalty: float) -> None:
    assert overlong_penalty(length, 100, 20) == pytest.approx(penalty)
    assert overlong_penalty(length, 100, 0) == 0


def test_a_penalty_is_taken_from_the_rewards_before_they_are_compared() -> None:
    made = group([written(80), written(90), written(100, cut=True)], [RIGHT, RIGHT, WRONG])
    assert group_advantages(made, PENALTY) == pytest.approx([1 - 1 / 6, 0.5 - 1 / 6, -1 - 1 / 6])
    assert group_advantages(made, RunConfig()) == pytest.approx([1 / 3, 1 / 3, -2 / 3])
    assert overlong_metrics([made], PENALTY) == {"reward/overlong_penalty": pytest.approx(-0.5)}
    assert overlong_metrics([made], RunConfig()) == {}
    assert [reward.value for reward in made.rewards] == [1, 1, 0]


def test_a_completion_whose_grader_crashed_has_no_penalty_and_no_advantage() -> None:
    made = group([written(80), written(90), written(100)], [RIGHT, WRONG, CRASHED])
    assert group_advantages(made, PENALTY) == pytest.approx([0.75, -0.75, 0])
    assert overlong_metrics([made], PENALTY) == {"reward/overlong_penalty": pytest.approx(-0.25)}
    crashed = group([written(100)] * 2, [CRASHED] * 2)
    assert group_advantages(crashed, PENALTY) == [0, 0]
    assert overlong_metrics([crashed], PENALTY) == {"reward/overlong_penalty": 0}


def test_a_buffer_longer_than_a_completion_is_refused() -> None:
    with pytest.raises(ValueError, match="overlong_buffer = 101 is above"):
        replaced(PENALTY, learner={"overlong_buffer": 101})


# --- the mask ---


def batch(made: Group, config: RunConfig) -> TrainBatch:
    advantages = group_advantages(made, config)
    return build_batch([made], [advantages], 1024, most_tokens=100, truncated=config.learner.truncated)


def assert_equal(one: TrainBatch, other: TrainBatch) -> None:
    assert (one.num_tokens, one.num_sequences, one.most_tokens) == (other.num_tokens, other.num_sequences, 100)
    for row, twin in zip(one.rows, other.rows, strict=True):
        for name in ("token_ids", "position_ids", "segment_ids", "predictors", "targets", "sequence_ids", "advantages"):
            assert torch.equal(getattr(row, name), getattr(twin, name)), name


def test_a_masked_completion_moves_nothing_the_divisors_included() -> None:
    kept = [written(3), written(7, token=6)]
    masked = [
        batch(group([kept[0], written(length, cut=True, token=token), kept[1]], [RIGHT, WRONG, WRONG]), MASK)
        for length, token in ((100, 5), (40, 9))
    ]
    assert (masked[0].num_tokens, masked[0].num_sequences) == (10, 2)
    assert_equal(*masked)
    alone = build_batch([group(kept, [RIGHT, WRONG])], [[2 / 3, -1 / 3]], 1024, most_tokens=100)
    assert_equal(masked[0], alone)
    learned = batch(group([kept[0], written(100, cut=True), kept[1]], [RIGHT, WRONG, WRONG]), RunConfig())
    assert (learned.num_tokens, learned.num_sequences) == (110, 3)


def test_a_masked_completion_s_reward_has_its_part_in_the_mean() -> None:
    made = group([written(3), written(100, cut=True), written(7)], [RIGHT, WRONG, WRONG])
    assert group_advantages(made, MASK) == pytest.approx([2 / 3, 0, -1 / 3])
    assert overlong_metrics([made], MASK) == {"completion/masked_fraction": pytest.approx(1 / 3)}


class Recording(TorchLearner):
    """Keeps the batches that it learned from."""

    def __init__(self, model: ModelConfig, config: RunConfig) -> None:
        super().__init__("run", model, LoraConfig(rank=2), config.learner, temperature=1.0, seed=0)
        self.batches: list[TrainBatch] = []

    async def update(self, batch: TrainBatch, *, lr_scale: float = 1.0) -> dict[str, float]:
        self.batches.append(batch)
        return await super().update(batch, lr_scale=lr_scale)


async def test_a_step_whose_completions_are_all_masked_is_a_counted_no_op(tiny_model: ModelConfig) -> None:
    learner = Recording(tiny_model, MASK)
    before = await learner.publish()
    made = [group([written(9, cut=True), written(8, cut=True)], [RIGHT, WRONG])] * 2
    metrics = await learn(MASK, Rollout(made, {"sample": 1.0, "grade": 0.0}), before, learner, 1.0, Stopwatch())
    assert (metrics["update/skipped"], metrics["completion/masked_fraction"]) == (1, 1)
    assert metrics["group/no_signal_fraction"] == 1
    assert "update/loss" not in metrics
    assert learner.batches == [TrainBatch([], 0, 0, 100)]
    assert (await learner.publish()).payload == before.payload
    whole = replaced(MASK, learner={"truncated": "learn", "aggregation": "constant"})
    metrics = await learn(whole, Rollout(made, {"sample": 1.0, "grade": 0.0}), before, learner, 1.0, Stopwatch())
    assert metrics["update/skipped"] == 0
    assert (await learner.publish()).payload != before.payload


def test_given_completions_have_no_constant_to_divide_by() -> None:
    config = replaced(RunConfig(), learner={"aggregation": "constant"})
    with pytest.raises(ValueError, match='set it to "token" or "sequence"'):
        SFT.resolve(config, Path())
