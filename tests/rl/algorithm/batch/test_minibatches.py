"""Several optimizer steps from one step's groups: whose groups, over which policy, and bit for bit after a resume."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.fakes import RIGHT, made_groups
from helpers.loop import SMALL, Bomb, EagerGrader, Killed, configuration, run, timeless
from helpers.reference import logprobs
from helpers.torch_learner import TorchLearner

from lora.config import LoraConfig, ModelConfig
from lora.peft.files import read_peft
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.minibatches import merged, minibatches, with_old_policy
from rl.algorithm.metrics import Stopwatch
from rl.algorithm.objective.importance_weights import WEIGHTS
from rl.algorithm.objective.policy_gradient import OBJECTIVES
from rl.algorithm.sampling.prefetch import Rollout
from rl.config import LearnerConfig, RunConfig, replaced
from rl.remote.learner import check_config
from rl.train import learn
from rl.types import Row, TrainBatch

CONFIG = replaced(
    RunConfig(), learner={"minibatches": 2, "epochs": 3, "objective": "ppo", "lr": 1e-2, "max_ratio": 1.1},
    sampling={"group_size": 4, "max_tokens": 20, "temperature": 0.7}, problems_per_step=5,
)  # fmt: skip


def test_every_epoch_goes_through_all_groups_once_in_an_order_of_its_own() -> None:
    parts = list(minibatches(5, CONFIG, 3))
    assert [len(part) for part in parts] == [3, 2] * 3
    epochs = [[*parts[i], *parts[i + 1]] for i in (0, 2, 4)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert parts == list(minibatches(5, CONFIG, 3))
    assert parts != list(minibatches(5, CONFIG, 4))
    assert list(minibatches(1, CONFIG, 3)) == [[0]] * 3


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_proportional_to_its_advantages(name: str) -> None:
    """So a weight may go into them; one a token, but for what has a ratio a sequence, where it weighs its own token."""
    generator = torch.Generator().manual_seed(0)
    log_ratio, ids = torch.randn(12, generator=generator), torch.arange(12) // 5
    values, weights = torch.randn(12, generator=generator), torch.rand(12, generator=generator) * 3
    config = LearnerConfig(gspo_clip_low=0.1, gspo_clip_high=0.1)
    weighed = OBJECTIVES[name](log_ratio, values * weights, ids, config)
    torch.testing.assert_close(weighed, OBJECTIVES[name](log_ratio, values, ids, config) * weights)


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_first_of_the_updates_weighs_tokens_as_an_only_one_would(name: str) -> None:
    """The policy is still the old one then: what its objective masks, or weighs by completions, it does here, too."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.arange(12) // 4
    sampled, old = (torch.randn(12, generator=generator) * 0.5 - 2 for _ in range(2))
    row = replace(EMPTY, rollout_logprobs=sampled, advantages=torch.randn(12, generator=generator), sequence_ids=ids)
    config = LearnerConfig.model_validate({"objective": name, "max_ratio": 1.4, "icepop_high": 1.5})
    expected = OBJECTIVES[name](old - sampled, row.advantages, ids, config)
    assert len(set((expected / row.advantages).tolist())) > 2, "weights differ"
    divided = with_old_policy(row, old, config)
    torch.testing.assert_close(divided.rollout_logprobs, old)
    losses = OBJECTIVES[name](old - divided.rollout_logprobs, divided.advantages, ids, config)
    torch.testing.assert_close(losses, expected)


NOTHING = torch.zeros(0, dtype=torch.long)
EMPTY = Row(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING.float(), NOTHING.float())


class Recording(TorchLearner):
    """Keeps the batches that it learned from."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__("run", model, LoraConfig(rank=2), CONFIG.learner, temperature=0.7, seed=0)
        self.batches: list[TrainBatch] = []

    async def update(self, batch: TrainBatch, *, lr_scale: float = 1.0) -> dict[str, float]:
        self.batches.append(batch)
        return await super().update(batch, lr_scale=lr_scale)


async def test_ratios_are_over_the_policy_that_the_step_began_with(tiny_model: ModelConfig) -> None:
    learner = Recording(tiny_model)
    with torch.no_grad():
        for name, tensor in learner.policy.weights.tensors().items():
            if name.endswith("lora_B"):
                tensor.fill_(0.02)
    before = await learner.publish()
    groups = made_groups(2, groups=5, length=(3, 7))
    groups[3] = replace(groups[3], rewards=[RIGHT] * 4)
    with torch.no_grad():
        old = {
            c.token_ids: logprobs(learner.shared.model, g.prompt, c.token_ids, 0.7)
            for g in groups
            for c in g.completions
        }
    written = {c.token_ids: (c, a) for g in groups for c, a in zip(g.completions, advantages(g.rewards), strict=True)}
    metrics = await learn(
        CONFIG, Rollout(groups, {"sample": 1.0, "grade": 0.0}), before, learner, 1.0, Stopwatch(), step=7
    )
    assert len(learner.batches) == 6
    chosen = list(minibatches(5, CONFIG, 7))
    for batch, indices in zip(learner.batches, chosen, strict=True):
        tokens = [len(c.token_ids) for i in indices for c in groups[i].completions]
        assert (batch.num_tokens, batch.num_sequences, batch.most_tokens) == (sum(tokens), len(tokens), 20)
        found = [part for row in batch.rows for part in completions_of(row)]
        assert [ids for ids, _, _ in found] == [c.token_ids for i in indices if i != 3 for c in groups[i].completions]
        for ids, denominators, values in found:
            completion, advantage = written[ids]
            torch.testing.assert_close(denominators, old[ids], rtol=1e-4, atol=1e-4)
            gap = old[ids] - torch.tensor(completion.logprobs)
            torch.testing.assert_close(values, advantage * gap.exp().clamp(max=1.1), rtol=1e-3, atol=1e-4)
    taught = [ids for ids, (_, advantage) in written.items() if advantage]
    gaps = torch.cat([old[ids] - torch.tensor(written[ids][0].logprobs) for ids in taught])
    assert metrics["update/kl_sampler_learner"] == pytest.approx((gaps.exp() - 1 - gaps).mean().item(), rel=1e-3)
    assert metrics["update/optimizer_steps"] == 6
    assert metrics["update/tokens"] == 3 * len(gaps)
    assert (await learner.publish()).version == 6


def completions_of(row: Row) -> list[tuple[tuple[int, ...], torch.Tensor, torch.Tensor]]:
    """Return the tokens, the denominators of the ratios, and the advantages of each of a row's completions."""
    parts = [row.sequence_ids == i for i in range(int(row.sequence_ids[-1]) + 1)]
    return [(tuple(row.targets[p].tolist()), row.rollout_logprobs[p], row.advantages[p]) for p in parts]


async def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    config = configuration(
        *SMALL,
        "num_steps=3",
        "evaluate.every=3",
        "learner.minibatches=2",
        "learner.epochs=2",
        "learner.objective=ppo",
        "learner.clip_low=0.02",
        "learner.clip_high=0.02",
    )
    whole = await run(config, tmp_path / "whole", EagerGrader())
    with pytest.raises(Killed):
        await run(config, tmp_path / "stopped", EagerGrader(), sinks=[Bomb(1)])
    resumed = await run(config, tmp_path / "stopped", EagerGrader(), resume=True)
    assert read_peft(resumed.adapters / "last") == read_peft(whole.adapters / "last")
    rows = [row for row in timeless(whole) if "update/lr" in row]
    assert rows[0]["policy/version"] == 0
    assert rows[2]["policy/version"] > 4
    assert all(row["update/optimizer_steps"] == 4 and math.isfinite(row["update/loss"]) for row in rows)
    assert max(row["update/clip_fraction"] for row in rows) > 0, "the policy moves between the updates of a step"
    assert max(row["update/kl_sampler_learner"] for row in rows) < 1e-6, "and was the sampler's before them"


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="minibatches is above problems_per_step = 5"):
        replaced(CONFIG, learner={"minibatches": 6})
    with pytest.raises(ValueError, match=r"set learner\.minibatches = 1 and learner\.epochs = 1"):
        check_config(replaced(CONFIG, sampling={"temperature": 1.0}))


def test_minibatches_without_a_signal_are_no_steps() -> None:
    taken = {"update/skipped": 0.0, "update/loss": 0.5, "update/tokens": 10.0}
    together = merged([taken, {"update/skipped": 1.0}, taken])
    assert (together["update/optimizer_steps"], together["update/loss"], together["update/tokens"]) == (2, 0.5, 20)
