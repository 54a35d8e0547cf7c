"""Policies that share a base model learn what each learns alone, whatever is computed again in the backward pass."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.fakes import made_groups
from helpers.policies import begun, everything
from helpers.reference import MIXTURES, save_tiny
from helpers.threads import in_threads
from torch import Tensor

from lora.config import LoraConfig, ModelConfig
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch, split_rows
from rl.config import LearnerConfig
from rl.learner.bases.shared_model import PolicyBatch, SharedModel
from rl.learner.collectives import ProcessGroup
from rl.learner.policies.policy import Policy, PolicySpec
from rl.types import TrainBatch

HEADS = {"frozen heads": (False, False, False), "adapted heads": (True, True, True), "one of each": (True, False, True)}


def specs(heads: tuple[bool, ...]) -> list[PolicySpec]:
    """Of different ranks, rates, temperatures and objectives. The last one's adapter is the model's newest."""
    ranks, objectives, temperatures = (1, 8, 2), ("importance", "gspo", "ppo"), (1.0, 0.7, 1.25)
    return [
        PolicySpec(
            f"p{i}",
            LoraConfig(rank=ranks[i], lm_head=head),
            LearnerConfig(lr=(1e-2, 3e-3, 5e-3)[i], objective=objectives[i]),  # type: ignore[arg-type]
            temperatures[i],
            i,
        )
        for i, head in enumerate(heads)
    ]


def batch(policy: Policy, step: int) -> TrainBatch:
    """Of another number of rows for each policy, and of other lengths."""
    groups = made_groups(100 * policy.spec.seed + step, groups=2 + policy.spec.seed, size=4)
    return build_batch(groups, [advantages(group.rewards) for group in groups], 24)


def made(family: str, directory: Path) -> ModelConfig:
    save_tiny(family, directory)
    return ModelConfig(name=str(directory), dtype="float32", max_length=64)


@pytest.mark.parametrize("tokens", [1, 48, 4096], ids=["a row each", "mixed", "all in one"])
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
def test_policies_together_learn_what_each_learns_alone(
    tmp_path: Path, checkpointing: bool, heads: str, tokens: int
) -> None:
    assert_as_alone(made("llama", tmp_path), checkpointing, heads, tokens)


@pytest.mark.parametrize("family", MIXTURES)
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
def test_so_do_policies_on_a_mixture_of_experts(tmp_path: Path, family: str, checkpointing: bool) -> None:
    assert_as_alone(made(family, tmp_path), checkpointing, "one of each", 48)


def assert_as_alone(model: ModelConfig, checkpointing: bool, heads: str, tokens: int) -> None:
    together = SharedModel(model, tokens_per_microbatch=tokens, gradient_checkpointing=checkpointing)
    policies = [begun(together, spec) for spec in specs(HEADS[heads])]
    for step in range(2):
        metrics = together.update([PolicyBatch(policy, batch(policy, step)) for policy in policies])
    for among, mine in zip(policies, metrics, strict=True):
        alone, expected = learned_alone(model, among.spec)
        assert mine == pytest.approx(expected, rel=1e-3, abs=1e-5)
        for name, got in everything(among).items():
            assert (got - alone[name]).norm() <= 1e-3 * alone[name].norm(), (among.run, name)


def learned_alone(model: ModelConfig, spec: PolicySpec) -> tuple[dict[str, Tensor], dict[str, float]]:
    """A policy on a base model of its own that keeps its activations, and the metrics of its last step."""
    shared = SharedModel(model)
    policy = begun(shared, spec)
    for step in range(2):
        (metrics,) = shared.update([PolicyBatch(policy, batch(policy, step))])
    return everything(policy), metrics


def test_so_do_policies_whose_rows_are_divided_among_two_learners(tmp_path: Path) -> None:
    model = made("llama", tmp_path)

    def begin(peers: ProcessGroup) -> SharedModel:
        return SharedModel(model, group=peers, gradient_checkpointing=True, tokens_per_microbatch=48)

    def learn(rank: int, shared: SharedModel) -> list[Policy]:
        policies = [begun(shared, spec) for spec in specs(HEADS["one of each"])]
        for step in range(2):
            whole = [batch(policy, step) for policy in policies]
            shares = [replace(one, rows=split_rows(one.rows, 2)[rank]) for one in whole]
            shared.update([PolicyBatch(policy, share) for policy, share in zip(policies, shares, strict=True)])
        return policies

    one, other = in_threads(2, begin, learn)
    for mine, theirs in zip(one, other, strict=True):
        wanted, _ = learned_alone(model, mine.spec)
        for name, got in everything(mine).items():
            assert torch.equal(got, everything(theirs)[name])
            assert (got - wanted[name]).norm() <= 1e-3 * wanted[name].norm(), (mine.run, name)
