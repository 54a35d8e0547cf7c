"""Means over tokens, over completions, and over a constant: the gradient of a plain loop, however a step is cut up."""

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
from rl.config import LearnerConfig
from rl.learner.bases.shared_model import PolicyBatch
from rl.learner.collectives import ProcessGroup
from rl.types import Group, TrainBatch

CONFIG = LearnerConfig(objective="ppo", max_grad_norm=None, lr=1e-2)
MOST = 40
CUTS = {"8 x 1": (4096, 1024), "1 x 8": (1, 1024), "a completion a row": (1, 1), "padded pairs": (90, 40)}
"""Tokens of a microbatch and of a row."""


def learner(model: ModelConfig, aggregation: str, tokens: int, peers: ProcessGroup | None = None) -> TorchLearner:
    config = CONFIG.model_copy(update={"aggregation": aggregation, "tokens_per_microbatch": tokens})
    made = TorchLearner("run", model, LoraConfig(rank=2), config, temperature=1.0, seed=0, group=peers)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for layer in made.policy.weights.values():  # A has a gradient only where B is not zero
            layer.lora_B.copy_(torch.randn(layer.lora_B.shape, generator=generator) * 0.02)
    return made


def off_policy(trained: TorchLearner) -> list[Group]:
    """Groups whose tokens' ratios are on both sides of both ends of the range; one group has no signal."""
    rng = random.Random(0)
    groups = list[Group]()
    for group in made_groups(4, groups=4, size=4, length=(1, 20)):
        completions = list(group.completions)
        for index, completion in enumerate(completions):
            with torch.no_grad():
                policy = logprobs(trained.shared.model, group.prompt, completion.token_ids).tolist()
            moved = tuple(value + rng.gauss(0, 0.3) for value in policy)
            completions[index] = replace(completion, logprobs=moved)
        groups.append(replace(group, completions=completions))
    return [*groups[:-1], replace(groups[-1], rewards=[RIGHT] * 4)]


def written_out(trained: TorchLearner, groups: Sequence[Group], aggregation: str) -> Tensor:
    """The loss, a completion at a time."""
    total, tokens, sequences = torch.zeros(()), 0, 0
    for group in groups:
        for completion, advantage in zip(group.completions, advantages(group.rewards), strict=True):
            policy = logprobs(trained.shared.model, group.prompt, completion.token_ids)
            ratio = (policy - torch.tensor(completion.logprobs)).exp()
            terms = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.28) * advantage)
            total = total + (terms.mean() if aggregation == "sequence" else terms.sum())
            tokens, sequences = tokens + len(policy), sequences + 1
    return total / {"token": tokens, "sequence": sequences, "constant": sequences * MOST}[aggregation]


@pytest.mark.parametrize("count", [1, 2], ids=["one learner", "two learners"])
@pytest.mark.parametrize("aggregation", ["token", "sequence", "constant"])
def test_an_update_has_the_gradient_of_a_plain_loop_however_it_is_cut_up(
    tiny_model: ModelConfig, aggregation: str, count: int
) -> None:
    plain = learner(tiny_model, aggregation, 4096)
    groups = off_policy(plain)
    loss = written_out(plain, groups, aggregation)
    named = plain.policy.weights.tensors()
    expected = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
    for cut, (tokens, tokens_per_row) in CUTS.items():
        advised = [advantages(group.rewards) for group in groups]
        batch = build_batch(groups, advised, tokens_per_row, most_tokens=MOST)

        def learn(rank: int, trained: TorchLearner, batch: TrainBatch = batch) -> tuple[dict[str, Tensor], float]:
            share = replace(batch, rows=split_rows(batch.rows, count)[rank])
            (metrics,) = trained.shared.update([PolicyBatch(trained.policy, share)])
            grads = {name: t.grad for name, t in trained.policy.weights.tensors().items() if t.grad is not None}
            return grads, metrics["update/loss"]

        for got, value in in_threads(count, partial(learner, tiny_model, aggregation, tokens), learn):
            assert value == pytest.approx(loss.item(), rel=1e-4, abs=1e-6), cut
            for name, gradient in expected.items():
                assert (got[name] - gradient).norm() <= 1e-4 * gradient.norm(), (cut, name)
