"""Policies whose rows do not share microbatches: each gets, to the last bit, what it would get alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers.fakes import cores
from helpers.free_form import made_data, moved_state, request_of
from helpers.hybrids import save_hybrid
from helpers.reference import FAMILIES, save_tiny
from torch import Tensor

from lora.config import ATTENTION, MLP, LoraConfig, ModelConfig
from rl.algorithm.objective.summed_loss import SummedLoss
from rl.config import LearnerConfig
from rl.learner.policies.policy import AdamConfig, PolicySpec
from rl.learner.policy_host import LearnerSpec, PolicyHost, PolicyUpdate

LOSS = SummedLoss.of("importance_sampling", {})
ADAM = AdamConfig(lr=1e-2, weight_decay=0.01)
LORAS = {
    "rank 1": LoraConfig(rank=1),
    "rank 8 with head": LoraConfig(rank=8, lm_head=True),
    "rank 32": LoraConfig(rank=32, allow_large_rank=True),
    "attention": LoraConfig(rank=4, targets=ATTENTION),
    "mlp with head": LoraConfig(rank=2, targets=MLP, lm_head=True),
    "head": LoraConfig(rank=4, targets=(), lm_head=True),
}
LENGTHS: dict[str, Sequence[int]] = {
    "rank 1": (9, 30, 4, 12),
    "rank 8 with head": (17,) * 9,
    "rank 32": (3,),
    "attention": (25, 24, 23, 1, 1, 1),
    "mlp with head": (2,) * 20,
    "head": (40, 8),
}


@dataclass(frozen=True)
class Learned:
    """All that two requests and a step give a policy."""

    numbers: list[Tensor]
    metrics: list[dict[str, float]]
    state: bytes


def host(model: ModelConfig, *, mix: bool = False, again: bool = False) -> PolicyHost:
    config = LearnerConfig(tokens_per_microbatch=80, gradient_checkpointing=again)
    return PolicyHost(LearnerSpec(model, "cpu", config, mix_policies=mix))


def add(to: PolicyHost, model: ModelConfig, *names: str) -> None:
    for name in names:
        to.add(PolicySpec(name, LORAS[name], LearnerConfig(), 1.0, 0))
        to.load_state(name, moved_state(model, LORAS[name], seed=len(name)))


def requests(names: Sequence[str], seed: int) -> list[PolicyUpdate]:
    return [request_of(name, made_data(seed + len(name), LENGTHS[name]), LOSS) for name in names]


def learn(on: PolicyHost, *names: str) -> dict[str, Learned]:
    with cores(2):
        outputs = [on.forward_backward(requests(names, seed)) for seed in (0, 50)] + [on.forward(requests(names, 99))]
        steps = [on.optim_step(name, ADAM) for name in names]
    learned: dict[str, Learned] = {}
    for i, name in enumerate(names):
        gradients = [parameter.grad.clone() for parameter in on.policies[name].parameters if parameter.grad is not None]
        logprobs = [row for output in outputs for row in output[i].logprobs]
        metrics = [*(output[i].metrics for output in outputs), steps[i]]
        learned[name] = Learned([*gradients, *logprobs], metrics, on.state(name))
    return learned


def assert_same(actual: Learned, expected: Learned) -> None:
    assert len(actual.numbers) == len(expected.numbers)
    assert all(map(torch.equal, actual.numbers, expected.numbers))
    assert actual.metrics == expected.metrics
    assert actual.state == expected.state


def alone(model: ModelConfig, name: str, *, again: bool = False) -> Learned:
    one = host(model, again=again)
    add(one, model, name)
    return learn(one, name)[name]


def saved(family: str, directory: Path) -> ModelConfig:
    save_tiny(family, directory)
    return ModelConfig(name=str(directory), dtype="float32", max_length=64)


@pytest.mark.parametrize("again", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("family", ["tiny-random", "gemma2-sliding-softcap", "mixtral"])
def test_policies_together_get_the_bits_that_each_gets_alone(tmp_path: Path, family: str, again: bool) -> None:
    """They have unlike ranks and layers, and rows of unlike number and length."""
    model = ModelConfig(name=family, dtype="float32", max_length=64)
    if family != "tiny-random":
        model = saved(family, tmp_path)
    together = host(model, again=again)
    add(together, model, *LORAS)
    for name, learned in learn(together, *LORAS).items():
        assert_same(learned, alone(model, name, again=again))


def test_so_do_policies_of_a_hybrid_which_reads_completions_alone(tmp_path: Path) -> None:
    save_hybrid("qwen3.5", tmp_path)
    model = ModelConfig(name=str(tmp_path), dtype="float32", max_length=64)
    names = ("attention", "head", "mlp with head")
    together = host(model)
    add(together, model, *names)
    for name, learned in learn(together, *names).items():
        assert_same(learned, alone(model, name))


def test_nobodys_bits_depend_on_who_else_is_there_or_was(tiny_model: ModelConfig) -> None:
    """An adapter on the output layer leaves that layer wrapped when it goes."""
    together = host(tiny_model)
    add(together, tiny_model, "head", "rank 1")
    learn(together, "head")
    together.remove("head")
    assert_same(learn(together, "rank 1")["rank 1"], alone(tiny_model, "rank 1"))


def test_where_policies_mix_each_gets_nearly_the_same(tiny_model: ModelConfig) -> None:
    mixed, apart = host(tiny_model, mix=True), host(tiny_model)
    for one in (mixed, apart):
        add(one, tiny_model, *LORAS)
    expected = learn(apart, *LORAS)
    for name, learned in learn(mixed, *LORAS).items():
        for got, tensor in zip(learned.numbers, expected[name].numbers, strict=True):
            assert (got - tensor).norm() <= 1e-4 * tensor.norm()
        for got, metrics in zip(learned.metrics, expected[name].metrics, strict=True):
            assert got == pytest.approx(metrics, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("lm_head", [False, True], ids=["frozen head", "adapted head"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_forward_pass_alone_has_the_same_bits_in_every_family(tmp_path: Path, family: str, lm_head: bool) -> None:
    """With and without a graph, torch may take other ways."""
    model = saved(family, tmp_path)
    one = host(model)
    lora = LoraConfig(rank=2, lm_head=lm_head)
    one.add(PolicySpec("run", lora, LearnerConfig(), 1.0, 0))
    one.load_state("run", moved_state(model, lora))
    asked = [request_of("run", made_data(0, (9, 30, 4, 12)), LOSS)]
    (forward,), (both,) = one.forward(asked), one.forward_backward(asked)
    assert forward.metrics == both.metrics
    assert all(map(torch.equal, forward.logprobs, both.logprobs))


def test_grouped_products_of_experts_are_a_policys_before_another_adapts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where wrapped experts have another order of sums than those of transformers."""
    monkeypatch.setattr("lora.layers.experts.multiplies_groups", lambda weight: True)
    save_tiny("mixtral", tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"num_experts_per_tok": 4}))  # sums of two have no order
    model = ModelConfig(name=str(tmp_path), dtype="float32", max_length=64)
    on, sequences = host(model), [[5, 9, 3, 7, 7, 2, 11], [4, 8, 6]]
    add(on, model, "attention")
    before = on.score("attention", sequences, "policy")
    add(on, model, "mlp with head")
    assert on.score("attention", sequences, "policy") == before
