"""Several optimizer steps from one step's groups: they are divided into minibatches, and gone through again.

After the first of these the policy is no longer the one that the step began with. The clips of an objective are meant
around that old policy, and its distance from the sampler is another matter: with q = p_old / p_sampler, an advantage is
multiplied by min(q, C), and the ratio is p_policy / p_old (Hilton et al. 2022; Yao et al. 2025). Objectives that mask
ratios, or take a completion's product of them, weigh q in the same way. Every objective is proportional to its
advantages, so this is all there is to do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from statistics import fmean

import torch
from torch import Tensor

from rl.algorithm.objective.importance_weights import sampler_weights
from rl.config import LearnerConfig, RunConfig
from rl.types import Learner, Row, TrainBatch

Metrics = dict[str, float]
SUMMED = "update/tokens"
KL = "update/kl_sampler_learner"


async def take_updates(
    batches: Sequence[TrainBatch], config: RunConfig, learner: Learner, scale: float, step: int
) -> Metrics:
    """Take a step's optimizer steps from the batches of its groups, each at `scale` times the learning rate.

    Returns their metrics: means, and for tokens the sum.
    """
    most, whole = config.most_sampled, joined(batches, config.most_sampled)
    if not several(config) or not whole.rows:
        return await learner.update(whole, lr_scale=scale)
    old = await learner.logprobs(whole)
    behaved = iter([with_old_policy(row, o, config.learner) for row, o in zip(whole.rows, old, strict=True)])
    behaved_batches = [replace(batch, rows=[next(behaved) for _ in batch.rows]) for batch in batches]
    metrics = list[Metrics]()
    for chosen in minibatches(len(batches), config, step):
        part = joined([behaved_batches[i] for i in chosen], most)
        metrics.append(await learner.update(part, lr_scale=scale))
    return merged(metrics) | {KL: _divergence(whole.rows, old)}


def several(config: RunConfig) -> bool:
    """Return True if a step takes more than one optimizer step."""
    return config.learner.minibatches * config.learner.epochs > 1


def minibatches(count: int, config: RunConfig, step: int) -> Iterator[list[int]]:
    """Yield the indices of each minibatch's groups: each of `count` groups once an epoch, in an order of its own."""
    for epoch in range(config.learner.epochs):
        order = list(range(count))
        Random(f"minibatches/{config.seed}/{step}/{epoch}").shuffle(order)
        parts = [order[i :: config.learner.minibatches] for i in range(config.learner.minibatches)]
        yield from (part for part in parts if part)


def joined(batches: Sequence[TrainBatch], most_tokens: int) -> TrainBatch:
    """Return one batch of all."""
    return TrainBatch(
        [row for batch in batches for row in batch.rows],
        sum(batch.num_tokens for batch in batches),
        sum(batch.num_sequences for batch in batches),
        most_tokens,
    )


def with_old_policy(row: Row, old: Tensor, config: LearnerConfig) -> Row:
    """Return a row whose ratios are over the old policy, with the sampler's distance from it in its advantages."""
    weight = sampler_weights(old - row.rollout_logprobs, row.sequence_ids, config)
    return replace(row, rollout_logprobs=old, advantages=row.advantages * weight)


def merged(metrics: Sequence[Metrics]) -> Metrics:
    """Return the metrics of several updates as one: of each the mean over those that have it, of tokens the sum."""
    names = dict.fromkeys(name for each in metrics for name in each)
    values = {name: [each[name] for each in metrics if name in each] for name in names}
    means = {name: sum(numbers) if name == SUMMED else fmean(numbers) for name, numbers in values.items()}
    largest = max(each.get("update/nonfinite", 0.0) for each in metrics)
    taken = sum(not each.get("update/skipped") for each in metrics)  # a minibatch without a signal takes no step
    return means | {"update/nonfinite": largest, "update/optimizer_steps": float(taken)}


def _divergence(rows: Sequence[Row], old: Sequence[Tensor]) -> float:
    """Return KL(sampler, learner) before the first of the updates, in nats a token (k3, Schulman 2020)."""
    gaps = torch.cat([o - row.rollout_logprobs for row, o in zip(rows, old, strict=True)])
    return (gaps.exp() - 1 - gaps).mean().item()
