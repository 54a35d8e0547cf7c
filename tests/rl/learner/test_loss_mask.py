"""Tokens that the policy did not write are read like all others, and are no part of a loss, a gradient or a count."""

import random
from dataclasses import fields, replace

import pytest
import torch
from helpers.fakes import made_groups
from helpers.reference import logprobs
from helpers.torch_learner import TorchLearner

from lora.config import LoraConfig, ModelConfig
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch, unpack_rows
from rl.algorithm.metrics import group_metrics
from rl.config import LearnerConfig
from rl.types import Group, Row
from rollout.types import Completion


def masked(completion: Completion, rng: random.Random) -> Completion:
    """The same with an environment's tokens in between; the first and the last one stay the policy's."""
    last = len(completion.token_ids) - 1
    mask = tuple(place in (0, last) or rng.random() < 0.5 for place in range(last + 1))
    known = tuple(p if own else 0.0 for p, own in zip(completion.logprobs, mask, strict=True))
    return replace(completion, logprobs=known, loss_mask=mask)


RNG = random.Random(3)
GROUPS = [
    replace(group, completions=[masked(completion, RNG) for completion in group.completions])
    for group in made_groups(5, groups=4, size=6, length=(2, 9))
]
ADVANTAGES = [advantages(group.rewards) for group in GROUPS]
NUM_SAMPLED = sum(sum(c.loss_mask or ()) for group in GROUPS for c in group.completions)


def same(row: Row, other: Row) -> bool:
    unset = ("in_ratio", "routed_experts")
    return all(torch.equal(getattr(row, f.name), getattr(other, f.name)) for f in fields(Row) if f.name not in unset)


def test_a_mask_leaves_targets_out_and_keeps_them_as_inputs() -> None:
    completion = Completion((4, 5, 6, 7), (-1.0, 0.0, 0.0, -2.0), "", "stop", 0, loss_mask=(True, False, False, True))
    group = Group(
        GROUPS[0].problem, [8, 9], [completion, Completion((3,), (-3.0,), "", "stop", 0)], GROUPS[0].rewards[:2]
    )
    batch = build_batch([group], [[0.5, -0.5]], 1024)
    (row,) = batch.rows
    assert row.token_ids.tolist() == [8, 9, 4, 5, 6]
    assert row.predictors.tolist() == [1, 4, 1]
    assert row.targets.tolist() == [4, 7, 3]
    assert row.sequence_ids.tolist() == [0, 0, 1]
    assert row.rollout_logprobs.tolist() == [-1.0, -2.0, -3.0]
    assert (batch.num_tokens, batch.num_sequences) == (3, 2)
    assert [r.targets.tolist() for r in unpack_rows([row])] == [[4, 7], [3]]
    assert [r.predictors.tolist() for r in unpack_rows([row])] == [[1, 4], [1]]


def test_a_mask_of_the_policys_tokens_alone_is_none() -> None:
    plain = made_groups(5)
    own = [
        replace(group, completions=[replace(c, loss_mask=(True,) * len(c.token_ids)) for c in group.completions])
        for group in plain
    ]
    values = [advantages(group.rewards) for group in plain]
    one, other = (build_batch(groups, values, 20) for groups in (plain, own))
    assert all(map(same, one.rows, other.rows))
    assert one.num_tokens == other.num_tokens
    assert group_metrics(plain, values, 0) == group_metrics(own, values, 0)


@pytest.mark.parametrize("aggregation", ["token", "sequence"])
@pytest.mark.parametrize("tokens_per_row", [1, 1024])
async def test_loss_and_gradient_are_those_of_plain_torch_over_the_same_sequence(
    tiny_model: ModelConfig, aggregation: str, tokens_per_row: int
) -> None:
    config = LearnerConfig(lr=1e-2, max_grad_norm=None, aggregation=aggregation)  # type: ignore[arg-type]
    trained = TorchLearner("run", tiny_model, LoraConfig(rank=2), config, temperature=1.0, seed=0)
    weights = trained.policy.weights
    with torch.no_grad():
        for layer in weights.values():
            layer.lora_B.copy_(torch.randn(layer.lora_B.shape, generator=torch.Generator().manual_seed(7)) * 0.02)
    total, value, kl = torch.zeros(()), 0.0, 0.0
    for group, values in zip(GROUPS, ADVANTAGES, strict=True):
        for completion, advantage in zip(group.completions, values, strict=True):
            own = torch.tensor(completion.loss_mask)
            policy = logprobs(trained.shared.model, group.prompt, completion.token_ids)[own]
            gap = policy.detach() - torch.tensor(completion.logprobs)[own]
            ratio = gap.exp().clamp(max=config.max_ratio)
            scale = int(own.sum()) if aggregation == "sequence" else 1
            total = total - (ratio * advantage * policy).sum() / scale
            value, kl = value - float((ratio * advantage).sum()) / scale, kl + float((gap.exp() - 1 - gap).sum())
    count = sum(len(group.completions) for group in GROUPS) if aggregation == "sequence" else NUM_SAMPLED
    leaves = weights.tensors()
    expected = dict(zip(leaves, torch.autograd.grad(total / count, list(leaves.values())), strict=True))
    metrics = await trained.update(build_batch(GROUPS, ADVANTAGES, tokens_per_row))
    assert metrics["update/tokens"] == NUM_SAMPLED
    assert metrics["update/loss"] == pytest.approx(value / count, rel=1e-4)
    assert metrics["update/kl_sampler_learner"] == pytest.approx(kl / NUM_SAMPLED, rel=1e-4)
    for name, gradient in expected.items():
        assert (leaves[name].grad - gradient).norm() <= 1e-5 * gradient.norm(), name
        assert gradient.norm() > 0, name


def test_lengths_are_of_the_policys_tokens() -> None:
    metrics = group_metrics(GROUPS, ADVANTAGES, 0)
    assert metrics["completion/length_mean"] == pytest.approx(NUM_SAMPLED / sum(len(g.completions) for g in GROUPS))
