"""One policy's part of a joint step: its batch, its loss in a microbatch, and the sums over its microbatches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lora.files.array_pickle import reduce_as_arrays
from rl.algorithm.objective.custom import load_objective
from rl.algorithm.objective.policy_gradient import OBJECTIVES, aggregated, clipped, divisor, shared
from rl.algorithm.objective.regularizers import kl_estimates, needs_base, penalties, regularizes
from rl.algorithm.objective.summed_loss import ScoredTargets, SummedLoss
from rl.config import LearnerConfig
from rl.learner.passes.microbatch import Microbatch
from rl.learner.policies.policy import AdamConfig, Policy
from rl.types import TrainBatch

ROUTED, REROUTED = "routed", "rerouted"
"""Sums over inputs and blocks: those whose experts a sampler returned, and those that the learner's own router would
send to others."""
SUMS = ("loss", "tokens", "kl", "entropy", "clipped", ROUTED, REROUTED)
DISAGREEMENT = "update/router_disagreement"
KL_BASE = "kl_base"
"""The sum that batches have besides, where their loss compares the policy with the base model."""


@dataclass(frozen=True, slots=True, eq=False)
class PolicyBatch:
    """One policy's part of a joint update."""

    policy: Policy
    batch: TrainBatch
    lr_scale: float = 1.0
    settings: LearnerConfig | None = None
    """Of the objective, where they are not the policy's own."""
    loss: SummedLoss | None = None
    """In place of the policy's objective: a plain sum, at temperature 1."""

    @property
    def objective(self) -> LearnerConfig:
        return self.settings or self.policy.spec.learner

    @property
    def temperature(self) -> float:
        """The temperature that logprobs are at."""
        return self.policy.spec.temperature if self.loss is None else 1.0

    @property
    def needs_base(self) -> bool:
        """True if its loss takes logprobs under the base model."""
        return self.loss is None and needs_base(self.objective)

    @property
    def needs_entropy_gradients(self) -> bool:
        """True if its loss has the entropies of the policy's distributions in it."""
        return self.loss is None and self.objective.entropy_coef > 0

    @property
    def adam(self) -> AdamConfig:
        return AdamConfig.of(self.policy.spec.learner, self.lr_scale)


@dataclass(frozen=True, slots=True, eq=False)
class ForwardBackward:
    """The outcome of a forward and backward pass for one policy, or of a forward pass alone."""

    metrics: dict[str, float]
    logprobs: list[Float[Tensor, " targets"]]
    """Of each row's targets under the policy, at its batch's temperature, in the rows' order."""

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce_as_arrays(self)

    @property
    def skipped(self) -> bool:
        """True where there was no row to learn from."""
        return bool(self.metrics["update/skipped"])

    @classmethod
    def without_rows(cls, batch: PolicyBatch) -> "ForwardBackward":
        """Return the outcome for a batch that has none; the sum over nothing is 0."""
        return cls({"update/skipped": 1.0} | ({} if batch.loss is None else {"update/loss": 0.0}), [])


@dataclass(frozen=True, slots=True, eq=False)
class PolicyPart:
    """One microbatch's part of one policy's step."""

    batch: PolicyBatch
    loss: Tensor
    """With its graph, if it is to be differentiated."""
    sums: Mapping[str, float]
    logprobs: Float[Tensor, " targets"]
    gradients: Sequence[Tensor | None] = ()
    """By the policy's leaves; None where a leaf had no part in the loss. Empty if it was not differentiated."""


@dataclass(slots=True)
class Totals:
    """Sums over the tokens of a step that carry a signal, and every target's logprob in the microbatches' order."""

    values: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SUMS, 0.0))
    logprobs: list[Tensor] = field(default_factory=list[Tensor])

    @classmethod
    def of(cls, batch: PolicyBatch) -> "Totals":
        """Return those of a batch, before its first microbatch."""
        return cls(dict.fromkeys((*SUMS, KL_BASE) if batch.needs_base else SUMS, 0.0))

    def add(self, part: PolicyPart) -> None:
        for name, value in part.sums.items():
            self.values[name] += value
        self.logprobs.append(part.logprobs)

    def metrics(self) -> dict[str, float]:
        tokens = max(1.0, self.values["tokens"])
        return {
            "update/loss": self.values["loss"],
            "update/kl_sampler_learner": self.values["kl"] / tokens,
            "update/entropy": self.values["entropy"] / tokens,
            "update/clip_fraction": self.values["clipped"] / tokens,
            "update/tokens": self.values["tokens"],
            "update/skipped": 0.0,
            **({"update/kl_base": self.values[KL_BASE] / tokens} if KL_BASE in self.values else {}),
            **({DISAGREEMENT: self.values[REROUTED] / self.values[ROUTED]} if self.values[ROUTED] else {}),
        }


def policy_part(
    batch: PolicyBatch,
    microbatch: Microbatch,
    targets: slice,
    logprobs: Tensor,
    entropies: Tensor,
    base: Tensor | None = None,
    routing: Mapping[str, float] | None = None,
) -> PolicyPart:
    """Return a policy's part of a microbatch, from the logprobs and entropies of all of the microbatch's targets.

    `base` are their logprobs under the base model, where a policy's loss takes them; `routing` are more sums, if any.
    """
    values = logprobs[targets].detach().cpu()
    if microbatch.is_padding:
        return PolicyPart(batch, 0 * logprobs[targets].sum(), {}, values[:0])
    scored = ScoredTargets(
        logprobs[targets],
        microbatch.rollout_logprobs[targets],
        microbatch.advantages[targets],
        microbatch.sequence_ids[targets],
        microbatch.in_ratio[targets],
    )
    of_targets = entropies[targets]
    loss, sums = (
        _objective(batch, scored, of_targets, None if base is None else base[targets])
        if batch.loss is None
        else _summed(batch.loss, scored, of_targets)
    )
    return PolicyPart(batch, loss, {**sums, **(routing or {})}, values)


def _objective(
    batch: PolicyBatch, scored: ScoredTargets, entropies: Tensor, base: Tensor | None
) -> tuple[Tensor, Mapping[str, float]]:
    """Return the policy's objective and its sums. The divisor is a whole step's, so that parts add up exactly."""
    config = batch.objective
    log_ratio = scored.logprobs - scored.rollout_logprobs
    arguments = log_ratio, scored.weights, scored.datum_ids, config
    source = batch.policy.spec.objective
    if source is None:
        losses = aggregated(OBJECTIVES[config.objective](*arguments), scored.datum_ids, config)
    else:
        losses = shared(load_objective(source)(*arguments), scored.datum_ids, config)
    if regularizes(config):
        losses = losses + shared(penalties(scored.logprobs, base, entropies, config), scored.datum_ids, config)
    loss = losses.sum() / divisor(batch.batch, config)
    if not scored.weights.any() and not regularizes(config):  # weightless rows are not of the step
        return loss, {}
    with torch.no_grad():
        outside = clipped(*arguments) if source is None else torch.zeros_like(log_ratio, dtype=torch.bool)
        sums = _sums(loss, log_ratio, entropies, outside)
        if base is not None and batch.needs_base:
            sums[KL_BASE] = kl_estimates(scored.logprobs - base, "k3").sum().item()
        return loss, sums


def _summed(loss: SummedLoss, scored: ScoredTargets, entropies: Tensor) -> tuple[Tensor, Mapping[str, float]]:
    """Return a request's loss and its sums, of which all but the loss are over what carries a signal."""
    total = loss.per_target(scored).sum()
    with torch.no_grad():
        weighed = scored.weights != 0
        log_ratio = (scored.logprobs - scored.rollout_logprobs) * loss.compares
        return total, _sums(total, log_ratio[weighed], entropies[weighed], loss.clipped(scored)[weighed])


def _sums(loss: Tensor, log_ratio: Tensor, entropies: Tensor, outside: Tensor) -> dict[str, float]:
    """Return a microbatch's sums, by the names of `Totals`."""
    # k3 of Schulman (2020): unbiased for KL(rollout || policy) and never negative.
    k3 = (log_ratio.exp() - 1 - log_ratio).sum()
    parts = torch.stack([loss.float(), k3, entropies.sum(), outside.sum().float()]).tolist()
    return dict(zip(("loss", "kl", "entropy", "clipped"), parts, strict=True)) | {"tokens": float(len(log_ratio))}


def differentiated(parts: Sequence[PolicyPart]) -> list[PolicyPart]:
    """Return a microbatch's parts with their gradients, and without the graph.

    Gradients are not added to `.grad` here, because microbatches that are under way together would add theirs in
    whichever order they end.
    """
    leaves = [part.batch.policy.weights.leaves() for part in parts]
    flat = [leaf for policy_leaves in leaves for leaf in policy_leaves]
    gradients = iter(torch.autograd.grad(torch.stack([part.loss for part in parts]).sum(), flat, allow_unused=True))
    return [
        replace(part, loss=part.loss.detach(), gradients=[next(gradients) for _ in policy_leaves])
        for part, policy_leaves in zip(parts, leaves, strict=True)
    ]
