"""GSPO as published (Zheng et al. 2025): a ratio a sequence, sequences that weigh alike, and a narrow clip range."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers.fakes import RIGHT, made_groups
from helpers.reference import logprobs
from helpers.threads import in_threads
from helpers.torch_learner import TorchLearner
from torch import Tensor

from lora.config import LoraConfig, ModelConfig
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch, split_rows
from rl.algorithm.objective.policy_gradient import clipped, gspo
from rl.config import LearnerConfig
from rl.learner.bases.shared_model import PolicyBatch
from rl.learner.collectives import ProcessGroup
from rl.types import Group, TrainBatch

CONFIG = LearnerConfig(objective="gspo", max_grad_norm=None, lr=1e-2)


def published(policy: Sequence[Tensor], old: Sequence[Tensor], advantages: Sequence[float]) -> Tensor:
    """Minus the objective of equation 5, with the ratio of equation 7 and the range of section 5.1, by completion."""
    terms = list[Tensor]()
    for new, before, advantage in zip(policy, old, advantages, strict=True):
        ratio = torch.exp((new.sum() - before.sum()) / len(new))
        terms.append(torch.min(ratio * advantage, ratio.clamp(1 - 3e-4, 1 + 4e-4) * advantage))
    return -sum(terms, torch.zeros(())) / len(terms)


def ours(log_ratios: Sequence[Tensor], weights: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Losses and gradients of all tokens, one sequence after another."""
    flat = torch.cat(list(log_ratios)).requires_grad_()
    losses = gspo(flat, *_repeated(log_ratios, weights), CONFIG)
    return losses.detach(), torch.autograd.grad(losses.sum(), flat)[0]


def _repeated(log_ratios: Sequence[Tensor], weights: Sequence[float]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(one) for one in log_ratios])
    spread = torch.tensor(weights, dtype=log_ratios[0].dtype).repeat_interleave(lengths)
    return spread, torch.arange(len(lengths)).repeat_interleave(lengths)


def test_losses_and_gradients_are_the_published_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = [1, 2, 10, 100, 1000, 7, 300, 33]
    means = [0.0, 5e-4, 3e-4, -2e-4, -5e-4, 0.1, -0.1, 1e-4]
    weights = [1.0, -1.0, 0.5, -0.5, -2.0, 1.0, 1.0, -0.25]
    noise = [torch.randn(length, generator=generator, dtype=torch.float64) for length in lengths]
    log_ratios = [one - one.mean() + mean for one, mean in zip(noise, means, strict=True)]
    policy = [one.clone().requires_grad_() for one in log_ratios]
    expected = published(policy, [torch.zeros_like(one) for one in policy], weights)
    gradient = torch.cat(torch.autograd.grad(expected, policy))
    losses, got = ours(log_ratios, weights)
    torch.testing.assert_close(losses.sum() / len(lengths), expected.detach())
    torch.testing.assert_close(got / len(lengths), gradient)
    assert 0 < (got == 0).sum() < len(got)


def test_a_long_completion_weighs_as_much_as_a_short_one() -> None:
    losses, gradient = ours([torch.zeros(1000), torch.zeros(100)], [1.0, 1.0])
    assert losses[:1000].sum().item() == pytest.approx(losses[1000:].sum().item(), rel=1e-5) == pytest.approx(-1)
    assert gradient[:1000].sum().item() == pytest.approx(gradient[1000:].sum().item(), rel=1e-5) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("mean", "advantage", "is_clipped"),
    [
        (3.5e-4, 1.0, False), (4.5e-4, 1.0, True), (4.5e-4, -1.0, False),
        (-2.5e-4, -1.0, False), (-3.5e-4, -1.0, True), (-3.5e-4, 1.0, False),
    ],
)  # fmt: skip
def test_the_range_clips_where_it_says(mean: float, advantage: float, is_clipped: bool) -> None:
    log_ratio = torch.full((50,), mean, dtype=torch.float64)
    log_ratio[::2] += 0.3
    log_ratio[1::2] -= 0.3
    _, gradient = ours([log_ratio], [advantage])
    assert (gradient == 0).all() == is_clipped
    cut = clipped(log_ratio, *_repeated([log_ratio], [advantage]), CONFIG)
    assert cut.all() == cut.any() == is_clipped


# --- an update ---


def learner(model: ModelConfig, tokens: int = 4096, peers: ProcessGroup | None = None) -> TorchLearner:
    config = CONFIG.model_copy(update={"tokens_per_microbatch": tokens})
    made = TorchLearner("run", model, LoraConfig(rank=2), config, temperature=1.0, seed=0, group=peers)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for layer in made.policy.weights.values():  # A has a gradient only where B is not zero
            layer.lora_B.copy_(torch.randn(layer.lora_B.shape, generator=generator) * 0.02)
    return made


def off_policy(trained: TorchLearner) -> list[Group]:
    """Groups whose sequences' ratios are on both sides of both ends of the range; one group has no signal."""
    rng, offsets = random.Random(0), itertools.cycle([-6e-4, -1.5e-4, 1.5e-4, 6e-4, 2e-3])
    groups = made_groups(4, groups=6, size=6, length=(1, 20))
    found = list[Group]()
    for group in groups:
        completions = list(group.completions)
        for index, completion in enumerate(completions):
            with torch.no_grad():
                policy = logprobs(trained.shared.model, group.prompt, completion.token_ids).double()
            noise = torch.tensor([rng.gauss(0, 0.1) for _ in policy], dtype=torch.float64)
            moved = policy - (noise - noise.mean()) - next(offsets)
            completions[index] = replace(completion, logprobs=tuple(moved.tolist()))
        found.append(replace(group, completions=completions))
    return [*found[:-1], replace(found[-1], rewards=[RIGHT] * 6)]


def packed(groups: Sequence[Group], tokens_per_row: int) -> TrainBatch:
    return build_batch(groups, [advantages(group.rewards) for group in groups], tokens_per_row)


def gradients(trained: TorchLearner) -> dict[str, Tensor]:
    return {name: t.grad for name, t in trained.policy.weights.tensors().items() if t.grad is not None}


CUTS = {"8 x 1": (4096, 1024), "1 x 8": (1, 1024), "a completion a row": (1, 1), "padded pairs": (90, 40)}
"""Tokens of a microbatch and of a row."""


@pytest.mark.parametrize("count", [1, 2], ids=["one learner", "two learners"])
@pytest.mark.parametrize("cut", CUTS)
def test_an_update_has_the_published_gradient_however_it_is_cut_up(
    tiny_model: ModelConfig, cut: str, count: int
) -> None:
    tokens, tokens_per_row = CUTS[cut]
    plain = learner(tiny_model)
    groups = off_policy(plain)
    pairs = [
        (logprobs(plain.shared.model, group.prompt, completion.token_ids), torch.tensor(completion.logprobs), advantage)
        for group in groups
        for completion, advantage in zip(group.completions, advantages(group.rewards), strict=True)
    ]
    policy, old, weights = zip(*pairs, strict=True)
    loss = published(policy, old, weights)
    named = plain.policy.weights.tensors()
    expected = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
    batch = packed(groups, tokens_per_row)

    def learn(rank: int, trained: TorchLearner) -> tuple[dict[str, Tensor], dict[str, float]]:
        share = replace(batch, rows=split_rows(batch.rows, count)[rank])
        (metrics,) = trained.shared.update([PolicyBatch(trained.policy, share)])
        return gradients(trained), metrics

    taught = [(new, before, weight) for new, before, weight in pairs if weight]
    cut_off = [len(new) for new, before, weight in taught if _is_clipped(new, before, weight)]
    for got, metrics in in_threads(count, partial(learner, tiny_model, tokens), learn):
        for name, gradient in expected.items():
            assert (got[name] - gradient).norm() <= 1e-4 * gradient.norm(), name
        signal = sum(len(new) for new, _, _ in taught)
        assert metrics["update/loss"] == pytest.approx(loss.item(), rel=1e-4, abs=1e-6)
        assert metrics["update/clip_fraction"] == pytest.approx(sum(cut_off) / signal)
        assert 0 < sum(cut_off) < signal


def _is_clipped(policy: Tensor, old: Tensor, advantage: float) -> bool:
    ratio = (policy - old).mean().exp().item()
    return ratio > 1 + 4e-4 if advantage > 0 else ratio < 1 - 3e-4
