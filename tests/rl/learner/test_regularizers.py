"""Entropy bonus and KL to the base in a loss: the gradient of a plain loop, however a step is cut up and shared."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from helpers.fakes import CRASHED, RIGHT, made_groups
from helpers.policies import begun
from helpers.threads import in_threads
from torch import Tensor

from lora.config import LoraConfig, ModelConfig
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch, split_rows
from rl.algorithm.objective.regularizers import kl_estimates, regularizes
from rl.config import LearnerConfig
from rl.learner.bases.shared_model import SharedModel
from rl.learner.collectives import ProcessGroup
from rl.learner.passes.policy_loss import PolicyBatch
from rl.learner.policies.policy import Policy, PolicySpec
from rl.types import Group, TrainBatch

MOST, TEMPERATURE = 40, 0.8
PLAIN = LearnerConfig(objective="ppo", max_grad_norm=None)
KL = PLAIN.model_copy(update={"kl_coef": 0.3, "aggregation": "sequence"})
LOSSES: dict[str, LearnerConfig] = {
    "k3, by completion": KL,
    "k2, by token": PLAIN.model_copy(update={"kl_coef": 0.5, "kl_estimator": "k2"}),
    "entropy, over a constant": PLAIN.model_copy(update={"entropy_coef": 0.2, "aggregation": "constant"}),
    "both, with gspo": KL.model_copy(update={"objective": "gspo", "entropy_coef": 0.1, "gspo_clip_high": 0.3}),
}


def spec(config: LearnerConfig, seed: int, *, lm_head: bool = False) -> PolicySpec:
    return PolicySpec(f"run-{seed}", LoraConfig(rank=2, lm_head=lm_head), config, temperature=TEMPERATURE, seed=seed)


def scored(policy: Policy, model: Any, group: Group, tokens: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return a completion's logprobs under a policy and under the base, and its entropies, one completion at a time."""
    ids = torch.tensor([[*group.prompt, *tokens]])

    def distribution() -> Tensor:
        logits = model(ids, use_cache=False).logits[0, len(group.prompt) - 1 : -1].float()
        return (logits / TEMPERATURE).log_softmax(-1)

    with policy.weights.exclusively():
        own = distribution()
    with policy.weights.disabled(), torch.no_grad():
        base = distribution()
    targets = torch.tensor(tokens)[:, None]
    return own.gather(1, targets)[:, 0], base.gather(1, targets)[:, 0], -(own.exp() * own).sum(-1)


def steps_groups(policy: Policy, model: Any, seed: int) -> list[Group]:
    """Groups whose ratios are on both sides of the clips; one has no signal, and one a grade that crashed."""
    rng = random.Random(seed)
    groups = list[Group]()
    for group in made_groups(seed, groups=4, size=4, length=(1, 14)):
        completions = list(group.completions)
        for index, completion in enumerate(completions):
            with torch.no_grad():
                own, _, _ = scored(policy, model, group, completion.token_ids)
            moved = tuple(value + rng.gauss(0, 0.3) for value in own.tolist())
            completions[index] = replace(completion, logprobs=moved)
        groups.append(replace(group, completions=completions))
    alike, crashed = (
        replace(groups[0], rewards=[RIGHT] * 4),
        replace(groups[1], rewards=[CRASHED, *groups[1].rewards[1:]]),
    )
    return [alike, crashed, *groups[2:]]


def written_out(policy: Policy, model: Any, groups: Sequence[Group], config: LearnerConfig) -> Tensor:
    """Return the loss of a step, a completion at a time."""
    total, tokens, sequences = torch.zeros(()), 0, 0
    for group in groups:
        for completion, reward, advantage in zip(
            group.completions, group.rewards, advantages(group.rewards), strict=True
        ):
            if not reward.is_valid:
                continue
            own, base, entropy = scored(policy, model, group, completion.token_ids)
            log_ratio = own - torch.tensor(completion.logprobs)
            if config.objective == "gspo":
                log_ratio = log_ratio.mean().expand(len(own))
            low, high = (
                (config.gspo_clip_low, config.gspo_clip_high)
                if config.objective == "gspo"
                else (config.clip_low, config.clip_high)
            )
            ratio = log_ratio.exp()
            terms = -torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)
            away = base - own
            kl = away.exp() - away - 1 if config.kl_estimator == "k3" else away**2 / 2
            terms = terms + config.kl_coef * kl - config.entropy_coef * entropy
            by_completion = config.aggregation == "sequence"
            total = total + (terms.mean() if by_completion else terms.sum())
            tokens, sequences = tokens + len(own), sequences + 1
    divisors = {"auto": tokens, "sequence": sequences, "constant": sequences * MOST}
    return total / divisors[config.aggregation]


def packed(groups: Sequence[Group], tokens_per_row: int, config: LearnerConfig) -> TrainBatch:
    advised = [advantages(group.rewards) for group in groups]
    return build_batch(groups, advised, tokens_per_row, most_tokens=MOST, keep_all=regularizes(config))


def made(model: ModelConfig, tokens: int, peers: ProcessGroup | None = None) -> SharedModel:
    return SharedModel(model, tokens_per_microbatch=tokens, group=peers)


def gradients(policy: Policy) -> list[Tensor]:
    found = [parameter.grad for parameter in policy.parameters]
    return [gradient for gradient in found if gradient is not None]


def check_gradients(policy: Policy, expected: Sequence[Tensor]) -> None:
    for gradient, plain in zip(gradients(policy), expected, strict=True):
        assert (gradient - plain).norm() <= 2e-4 * plain.norm() + 1e-9


CUTS = {"whole": (4096, 1024), "a completion a row": (1, 1), "padded pairs": (60, 30)}
"""Tokens of a microbatch and of a row."""


@pytest.mark.parametrize("lm_head", [False, True], ids=["frozen head", "adapted head"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_policy_among_others_has_the_gradient_of_a_plain_loop(
    tiny_model: ModelConfig, name: str, lm_head: bool
) -> None:
    """The other one, in the same microbatches, has neither term and must not notice."""
    config = LOSSES[name]
    model = made(tiny_model, 4096)
    policies = [begun(model, spec(config, 1, lm_head=lm_head)), begun(model, spec(PLAIN, 2))]
    steps = [steps_groups(policy, model.model, seed) for seed, policy in enumerate(policies)]
    pairs = list(zip(policies, steps, strict=True))
    losses = [written_out(policy, model.model, groups, policy.spec.learner) for policy, groups in pairs]
    expected = [torch.autograd.grad(loss, policy.parameters) for loss, policy in zip(losses, policies, strict=True)]
    for model.tokens_per_microbatch, tokens_per_row in CUTS.values():
        batches = [PolicyBatch(p, packed(groups, tokens_per_row, p.spec.learner)) for p, groups in pairs]
        outputs = model.forward_backward(batches)
        for policy, plain in zip(policies, expected, strict=True):
            check_gradients(policy, plain)
            policy.zero_grad()
        assert ("update/kl_base" in outputs[0].metrics) == (config.kl_coef > 0)
        assert "update/kl_base" not in outputs[1].metrics
        assert outputs[0].metrics.get("update/kl_base", 1) > 0


@pytest.mark.parametrize("name", ["both, with gspo", "k2, by token"])
def test_two_learners_sum_to_the_gradient_of_one(tiny_model: ModelConfig, name: str) -> None:
    config = LOSSES[name]
    alone = made(tiny_model, 4096)
    policy = begun(alone, spec(config, 1))
    groups = steps_groups(policy, alone.model, 0)
    expected = torch.autograd.grad(written_out(policy, alone.model, groups, config), policy.parameters)
    batch = packed(groups, 40, config)
    (whole,) = alone.forward_backward([PolicyBatch(policy, batch)])

    def learn(rank: int, model: SharedModel) -> tuple[Policy, dict[str, float]]:
        part = begun(model, spec(config, 1))
        (output,) = model.forward_backward([PolicyBatch(part, replace(batch, rows=split_rows(batch.rows, 2)[rank]))])
        return part, output.metrics

    for part, metrics in in_threads(2, partial(made, tiny_model, 60), learn):
        check_gradients(part, expected)
        assert metrics == pytest.approx(whole.metrics, rel=1e-3, abs=1e-6)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_rows_in_one_line_have_the_gradient_of_a_plain_loop(
    tiny_model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is how a GPU reads them. FlexAttention's backward pass on a CPU is there in torch, and refused at its door."""
    monkeypatch.setattr("torch.nn.attention.flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)

    def allow(*_: object) -> None:
        """Say that any device will do."""

    monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", allow)
    config = LOSSES["both, with gspo"]
    model = made(tiny_model, 4096)
    policy = begun(model, spec(config, 1))
    groups = steps_groups(policy, model.model, 0)
    expected = torch.autograd.grad(written_out(policy, model.model, groups, config), policy.parameters)
    monkeypatch.setattr(model, "_base", replace(model._base, joined=True))
    model.forward_backward([PolicyBatch(policy, packed(groups, 40, config))])
    check_gradients(policy, expected)


def test_a_step_without_a_signal_still_keeps_to_the_base(tiny_model: ModelConfig) -> None:
    model = made(tiny_model, 4096)
    policy = begun(model, spec(KL, 1))
    groups = [replace(group, rewards=[RIGHT] * 4) for group in made_groups(3)]
    (output,) = model.forward_backward([PolicyBatch(policy, packed(groups, 1024, KL))])
    assert output.metrics["update/tokens"] == sum(len(c.token_ids) for group in groups for c in group.completions)
    expected = torch.autograd.grad(written_out(policy, model.model, groups, KL), policy.parameters)
    check_gradients(policy, expected)
    assert packed(groups, 1024, PLAIN).rows == []


ESTIMATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "k1": lambda ratio: -ratio.log(),
    "k2": lambda ratio: ratio.log() ** 2 / 2,
    "k3": lambda ratio: ratio - 1 - ratio.log(),
}
"""Of KL(q || p) by the ratio p / q, p being the base (Schulman 2020)."""


def test_the_estimators_of_the_kl_are_schulmans_and_what_they_say_they_are() -> None:
    generator = torch.Generator().manual_seed(0)
    policy = torch.randn(50, generator=generator, dtype=torch.float64).mul(0.3).requires_grad_()
    base = torch.randn(50, generator=generator, dtype=torch.float64).mul(0.3).log_softmax(-1)
    logprobs = policy.log_softmax(-1)
    exact = (logprobs.exp() * (logprobs - base)).sum()
    (slope,) = torch.autograd.grad(exact, policy, retain_graph=True)
    for name, formula in ESTIMATORS.items():
        values = kl_estimates(logprobs - base, name)
        torch.testing.assert_close(values, formula((base - logprobs).exp()))
        mean = (logprobs.detach().exp() * values).sum()
        if name != "k2":
            torch.testing.assert_close(mean, exact)
        (gradient,) = torch.autograd.grad(mean, policy, retain_graph=True)
        if name == "k1":
            assert gradient.abs().max() < 1e-12  # why it is refused in the loss
        if name == "k2":
            torch.testing.assert_close(gradient, slope)
