"""Several policies on one base model: each is trained as if it were alone."""

from typing import Any

import pytest
import torch
from helpers.fakes import made_groups
from helpers.policies import begun, everything
from helpers.reference import surrogate
from transformers import AutoModelForCausalLM

from lora.base.resolve import resolve_model
from lora.config import LoraConfig, ModelConfig
from lora.peft.files import unpack
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch
from rl.config import LearnerConfig
from rl.learner.bases.shared_model import PolicyBatch, SharedModel
from rl.learner.policies.policy import PolicySpec
from rl.types import TrainBatch

ALL = LoraConfig().targets
SPECS = [
    PolicySpec(f"p{i}", LoraConfig(rank=rank, alpha=alpha, targets=targets), LearnerConfig(lr=lr, objective=objective), temperature, i)
    for i, (rank, alpha, targets, lr, objective, temperature) in enumerate(
        [
            (1, 32, ALL, 1e-2, "importance", 1.0),
            (8, 32, ALL, 3e-3, "gspo", 0.7),
            (2, 16, ("q_proj", "v_proj"), 1e-2, "ppo", 1.0),
            (4, 32, ("gate_proj", "up_proj", "down_proj"), 1e-3, "cispo", 1.25),
            (1, 32, ALL, 1e-2, "reinforce", 1.0),
            (3, 64, ALL, 2e-3, "importance", 1.0),
            (8, 32, ("down_proj",), 1e-2, "importance", 0.9),
            (1, 8, ALL, 5e-3, "ppo", 1.0),
        ]
    )
]  # fmt: skip


def batch(seed: int, step: int) -> TrainBatch:
    groups = made_groups(100 * seed + step, groups=1 + seed % 3, size=4)
    return build_batch(groups, [advantages(group.rewards) for group in groups], 64)


@pytest.mark.parametrize("tokens", [4096, 48], ids=["all in one microbatch", "a few rows each"])
def test_a_policy_among_seven_others_gets_the_updates_it_would_get_alone(tiny_model: ModelConfig, tokens: int) -> None:
    together = SharedModel(tiny_model, tokens_per_microbatch=tokens)
    policies = [begun(together, spec) for spec in SPECS]
    for step in range(3):
        metrics = together.update([PolicyBatch(policy, batch(policy.spec.seed, step), 0.5) for policy in policies])
        assert all(one["update/nonfinite"] == 0 for one in metrics)
    for among in policies:
        model = SharedModel(tiny_model, tokens_per_microbatch=tokens)
        alone = begun(model, among.spec)
        for step in range(3):
            (mine,) = model.update([PolicyBatch(alone, batch(among.spec.seed, step), 0.5)])
        index = policies.index(among)
        assert metrics[index] == pytest.approx(mine, rel=1e-4, abs=1e-6)
        expected = everything(alone)
        for name, got in everything(among).items():
            assert (got - expected[name]).norm() <= 1e-4 * expected[name].norm(), (among.run, name)
        sequences = [[5, 6, 7, 8], [9, 10, 11]]
        for got, want in zip(together.score(sequences, among), model.score(sequences, alone), strict=True):
            assert got == pytest.approx(want, abs=1e-4)


def test_a_policy_without_rows_is_left_alone_while_another_learns(tiny_model: ModelConfig) -> None:
    model = SharedModel(tiny_model)
    idle, busy = (begun(model, spec) for spec in SPECS[:2])
    before = idle.state()
    skipped, learned = model.update([PolicyBatch(idle, TrainBatch([], 10, 1)), PolicyBatch(busy, batch(1, 0))])
    assert skipped == {"update/skipped": 1.0}
    assert learned["update/skipped"] == 0
    assert idle.state() == before
    assert (idle.version, busy.version) == (0, 1)


def test_a_policy_that_is_not_finite_spoils_no_other(tiny_model: ModelConfig) -> None:
    model = SharedModel(tiny_model)
    broken, sound = (begun(model, spec) for spec in SPECS[:2])
    with torch.no_grad():
        next(iter(broken.weights.tensors().values())).fill_(torch.nan)
    spoilt, fine = model.update([PolicyBatch(broken, batch(0, 0)), PolicyBatch(sound, batch(1, 0))])
    assert (spoilt["update/nonfinite"], fine["update/nonfinite"]) == (1, 0)
    assert (broken.version, sound.version) == (0, 1)
    assert all(tensor.isfinite().all() for tensor in sound.weights.tensors().values())


def test_a_removed_policys_place_is_taken_by_the_next_and_the_others_go_on(tiny_model: ModelConfig) -> None:
    model = SharedModel(tiny_model)
    first, second = (begun(model, spec) for spec in SPECS[:2])
    scores = model.score([[5, 6, 7, 8]], second)
    model.remove(first)
    third = begun(model, SPECS[2])
    assert model.score([[5, 6, 7, 8]], second) == scores
    assert model.score([[5, 6, 7, 8]], third) != scores
    model.update([PolicyBatch(third, batch(2, 0)), PolicyBatch(second, batch(1, 0))])
    assert (second.version, third.version) == (1, 1)


def test_full_fine_tuning_moves_float32_masters_of_every_weight_and_publishes_the_models_own_type(
    tiny_model: ModelConfig,
) -> None:
    config = tiny_model.model_copy(update={"dtype": "bfloat16"})
    model = SharedModel(config, tokens_per_microbatch=48)
    policy = model.add(PolicySpec("full", LoraConfig(), LearnerConfig(weights="full", lr=1e-3), 1.0, 0))
    base = {name: tensor.clone() for name, tensor in policy.weights.tensors().items()}
    sequences = [[5, 6, 7, 8, 9]]
    before = model.score(sequences, policy)
    assert before == model.score(sequences, policy, "base")
    (metrics,) = model.update([PolicyBatch(policy, batch(2, 0))])
    assert metrics["update/grad_norm"] > 0
    moved = policy.weights.tensors()
    assert {tensor.dtype for tensor in moved.values()} == {torch.float32}
    assert sum(tensor.numel() for tensor in moved.values()) == sum(p.numel() for p in model.model.parameters())
    assert any((moved[name] != base[name]).any() for name in base)
    for name, parameter in model.model.named_parameters():
        assert torch.equal(parameter, moved[name].bfloat16())
    assert model.score(sequences, policy) != before
    assert model.score(sequences, policy, "base") == before
    published, description = unpack(policy.publish(model.dtype).payload)
    assert description.rank == 0
    assert all(torch.equal(published[name], moved[name].bfloat16()) for name in moved)


def test_full_fine_tuning_has_the_gradient_of_plain_autograd(tiny_model: ModelConfig) -> None:
    groups = made_groups(3, groups=3, size=4)
    advised = [advantages(group.rewards) for group in groups]
    plain: Any = AutoModelForCausalLM.from_pretrained(resolve_model(tiny_model.name), dtype=torch.float32).eval()
    surrogate(plain, groups, advised, temperature=1.0, max_ratio=2.0).backward()
    model = SharedModel(tiny_model, tokens_per_microbatch=64)
    learner = LearnerConfig(weights="full", max_grad_norm=None)
    policy = model.add(PolicySpec("full", LoraConfig(), learner, 1.0, 0))
    model.update([PolicyBatch(policy, build_batch(groups, advised, 64))])
    for name, parameter in plain.named_parameters():
        got = policy.weights.tensors()[name].grad
        assert got is not None
        assert parameter.grad is not None
        assert (got - parameter.grad).norm() <= 1e-4 * parameter.grad.norm(), name
