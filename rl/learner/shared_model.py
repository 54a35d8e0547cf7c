"""One base model and the policies that are trained on it: one batch may carry rows of several of them.

What the policies share is only read, so each gets the update that it would get alone: its rows see its adapter, its
loss is divided by its own tokens, and gradients meet nowhere.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lora.architecture import attends_only, in_one_line
from lora.config import ModelConfig
from lora.files import Description, unpack
from lora.full import FullWeights
from lora.inject import LoraLayers, check_adapted, eject, inject
from lora.load import load_base
from lora.types import Adapter
from rl.algorithm.batch import unpack_rows
from rl.algorithm.objective import OBJECTIVES, clipped, divisor
from rl.config import LearnerConfig
from rl.learner.collectives import ProcessGroup, SingleProcess
from rl.learner.forward import Microbatch, check_head, microbatches, target_logprobs
from rl.learner.microbatch_threads import Schedule, changes_itself, in_order, schedule
from rl.learner.packed_attention import use_packed_attention
from rl.learner.packing_check import check_rows, read_alone
from rl.learner.policy import AdamConfig, Policy, PolicySpec
from rl.learner.recompute import recompute_blocks
from rl.learner.sharding import shard_blocks
from rl.types import Row, TrainBatch


@dataclass(frozen=True, slots=True, eq=False)
class PolicyBatch:
    """One policy's part of a joint update."""

    policy: Policy
    batch: TrainBatch
    lr_scale: float = 1.0
    settings: LearnerConfig | None = None
    """Of the loss, where they are not the policy's own."""

    @property
    def loss(self) -> LearnerConfig:
        return self.settings or self.policy.spec.learner

    @property
    def adam(self) -> AdamConfig:
        return AdamConfig.of(self.policy.spec.learner, self.lr_scale)


@dataclass(frozen=True, slots=True, eq=False)
class ForwardBackward:
    """The outcome of a forward and backward pass for one policy."""

    metrics: dict[str, float]
    logprobs: list[Float[Tensor, " targets"]]
    """Of each row's targets under the policy, at its temperature, in the rows' order."""

    @property
    def skipped(self) -> bool:
        """True where there was no row to learn from."""
        return bool(self.metrics["update/skipped"])


class SharedModel:
    """A frozen base model, on one device."""

    def __init__(
        self,
        model: ModelConfig,
        *,
        device: str = "cpu",
        tokens_per_microbatch: int = 4096,
        gradient_checkpointing: bool = False,
        group: ProcessGroup | None = None,
    ) -> None:
        """Raises ValueError if there is no such model, or it would not be trained on right numbers."""
        self.config = model
        self.device = device
        self.dtype: torch.dtype = getattr(torch, model.dtype)
        self._tokens = tokens_per_microbatch
        self._group = group or SingleProcess()
        loaded: Any = load_base(model)
        if self._group.lockstep:
            shard_blocks(loaded, device)
        self.model: nn.Module = loaded.to(device).eval()
        with in_one_line(loaded.config.model_type):
            self.packs = self._prepare()
            """Whether several completions may share a row; else each is read alone."""
        # Attention and what is around it keep nothing from one pass to the next; of other layers that is not known.
        one_device = device == "cpu" and not self._group.lockstep
        self._side_by_side = one_device and self.packs and not changes_itself(self.model)
        if gradient_checkpointing:
            recompute_blocks(self.model)

    def _prepare(self) -> bool:
        """Let the model attend over packed rows, if it attends only, and check what it makes of rows."""
        packs = attends_only(self.model)
        alone = read_alone(self.model, self.device)
        if packs:
            use_packed_attention(self.model)
        check_head(self.model)
        check_rows(self.model, alone, self.device, packed=packs)
        return packs

    def add(self, spec: PolicySpec) -> Policy:
        """Begin a policy. Raises ValueError if the model lacks a layer that it adapts."""
        lora = spec.lora
        if spec.learner.weights == "full":
            return Policy(spec, FullWeights(self.model), Description(self.config.name, 0, 0.0, ()))
        targets = lora.all_targets
        layers = inject(self.model, lora, seed=spec.seed)
        check_adapted(self.model, layers)
        return Policy(spec, layers, Description(self.config.name, lora.rank, lora.alpha, targets, layers.expert_rank))

    def remove(self, policy: Policy) -> None:
        """End a policy; the others do not notice. All of a model's weights become what they were before it."""
        if isinstance(policy.weights, FullWeights):
            policy.weights.detach()
        elif isinstance(policy.weights, LoraLayers):
            eject(self.model, policy.weights)

    def update(self, batches: Sequence[PolicyBatch]) -> list[dict[str, float]]:
        """Make one optimizer step of each policy, from its own batch; return the `update/...` metrics of each.

        A policy whose batch has no rows, here and at all other learners, is left as it is.
        """
        outputs = self.forward_backward(batches)
        return [
            output.metrics | ({} if output.skipped else self.optim_step(batch.policy, batch.adam))
            for batch, output in zip(batches, outputs, strict=True)
        ]

    def forward_backward(self, batches: Sequence[PolicyBatch]) -> list[ForwardBackward]:
        """Add the gradients of each policy's loss to those it has; nothing is added to any of them if this fails."""
        active = [batch for batch in batches if self._group.max(len(batch.batch.rows))]
        totals = [_Totals() for _ in active]
        with ExitStack() as stack:
            for batch in active:
                stack.enter_context(batch.policy.adding_gradients())
            for gradient in self._gradients(active):
                active[gradient.policy_index].policy.weights.accumulate(gradient.gradients)
                totals[gradient.policy_index].add(gradient)
            for batch, total in zip(active, totals, strict=True):
                self._all_reduce(batch.policy, total)
        outputs = [ForwardBackward({"update/skipped": 1.0}, []) for _ in batches]
        for batch, total in zip(active, totals, strict=True):
            batch.policy.count_loss(total.values["loss"])
            outputs[batches.index(batch)] = ForwardBackward(total.metrics(), self._by_row(batch.batch.rows, total))
        return outputs

    def optim_step(self, policy: Policy, adam: AdamConfig) -> dict[str, float]:
        """Move a policy by the gradients it has, at all learners alike; return the metrics of that."""
        return policy.optim_step(adam, self.dtype, lambda sound: not self._group.max(int(not sound)))

    def score(
        self, sequences: Sequence[Sequence[int]], policy: Policy, under: Adapter | Literal["policy", "base"] = "policy"
    ) -> list[list[float]]:
        """Logprobs of every token but the first, at temperature 1, under a policy, an adapter of its shape or the base.

        Raises:
            ValueError: the adapter has another shape.
        """
        weights = policy.weights
        with weights.exclusively():
            if under == "policy":
                return self._score(sequences)
            with weights.disabled() if under == "base" else weights.swapped_in(unpack(under.payload)[0]):
                return self._score(sequences)

    @torch.no_grad()
    def _score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        by_length = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))  # the microbatches' own order
        parts = microbatches([row_to_score(sequences[i]) for i in by_length], self._tokens, self.device)
        logprobs = torch.cat([target_logprobs(self.model, part, packed=self.packs)[0] for part in parts])
        scores = logprobs.split([len(sequences[i]) - 1 for i in by_length])
        return [scores[by_length.index(i)].tolist() for i in range(len(sequences))]

    def _gradients(self, active: Sequence[PolicyBatch]) -> Iterator["_PolicyGradient"]:
        """Yield the parts of all microbatches, in the microbatches' order."""
        plan = self._schedule(active)
        for parts in in_order(plan, partial(self._differentiate, active), self._microbatches(active, plan.tokens)):
            yield from parts

    def _readable(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the rows as the model may read them."""
        return rows if self.packs else unpack_rows(rows)

    def _by_row(self, rows: Sequence[Row], total: "_Totals") -> list[Float[Tensor, " targets"]]:
        """Return the logprobs of each row's targets. Microbatches have a policy's longest rows first."""
        readable = self._readable(rows)
        order = sorted(range(len(readable)), key=lambda i: -len(readable[i].token_ids))
        lengths = [len(readable[i].targets) for i in order]
        logprobs = torch.cat([*total.logprobs, torch.zeros(0)])[: sum(lengths)]  # without those of padding rows
        by_readable = dict(zip(order, logprobs.split(lengths), strict=True)) if order else {}
        joined = torch.cat([by_readable[i] for i in range(len(readable))]) if order else logprobs
        return list(joined.split([len(row.targets) for row in rows]))

    def _schedule(self, active: Sequence[PolicyBatch]) -> Schedule:
        cores = torch.get_num_threads()
        if not self._side_by_side:
            return Schedule(1, cores, self._tokens)
        lengths = [len(row.token_ids) for batch in active for row in self._readable(batch.batch.rows)]
        return schedule(lengths, self._tokens, cores)

    def _microbatches(self, active: Sequence[PolicyBatch], tokens: int) -> list[Microbatch]:
        rows_of = [self._readable(batch.batch.rows) for batch in active]
        rows = list(itertools.chain.from_iterable(rows_of))
        policy_indices = [index for index, rows in enumerate(rows_of) for _ in rows]
        parts = microbatches(rows, tokens, self.device, policy_indices)
        if self._group.lockstep and active:
            missing = self._group.max(len(parts)) - len(parts)
            parts += microbatches([_padding_row()], 1, self.device) * missing
        return parts

    def _differentiate(self, active: Sequence[PolicyBatch], microbatch: Microbatch) -> list["_PolicyGradient"]:
        """Return what a microbatch adds to its policies. The divisor is a whole step's, so parts add up exactly.

        Several threads are in here at once: nothing that they share is changed.
        """
        temperatures = torch.ones_like(microbatch.advantages)
        for segment in microbatch.segments:
            temperatures[segment.targets] = active[segment.policy_index].policy.spec.temperature
        weights = [batch.policy.weights for batch in active]
        logprobs, entropies = target_logprobs(self.model, microbatch, temperatures, weights, packed=self.packs)
        losses: list[Tensor] = []
        sums: list[Mapping[str, float]] = []
        for segment in microbatch.segments:
            loss, values = _loss(active[segment.policy_index], microbatch, segment.targets, logprobs, entropies)
            losses.append(loss)
            sums.append(values)
        leaves = [active[segment.policy_index].policy.weights.leaves() for segment in microbatch.segments]
        return [
            _PolicyGradient(segment.policy_index, gradients, values, logprobs[segment.targets].detach().cpu())
            for segment, gradients, values in zip(microbatch.segments, _gradients(losses, leaves), sums, strict=True)
        ]

    def _all_reduce(self, policy: Policy, total: "_Totals") -> None:
        """Sum a policy's gradients and its totals over all learners."""
        for parameter in policy.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._group.sum([parameter.grad for parameter in policy.parameters if parameter.grad is not None])
        total.values = self._group.sum_values(total.values)


@dataclass(frozen=True, slots=True)
class _PolicyGradient:
    """One microbatch's part of one policy's gradient."""

    policy_index: int
    gradients: Sequence[Tensor | None]
    sums: Mapping[str, float]
    logprobs: Float[Tensor, " targets"]


@dataclass(slots=True)
class _Totals:
    """Sums over the tokens of a step that carry a signal, and every target's logprob in the microbatches' order."""

    values: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("loss", "tokens", "kl", "entropy", "clipped"), 0.0)
    )
    logprobs: list[Tensor] = field(default_factory=list[Tensor])

    def add(self, gradient: _PolicyGradient) -> None:
        for name, value in gradient.sums.items():
            self.values[name] += value
        self.logprobs.append(gradient.logprobs)

    def metrics(self) -> dict[str, float]:
        tokens = max(1.0, self.values["tokens"])
        return {
            "update/loss": self.values["loss"],
            "update/kl_sampler_learner": self.values["kl"] / tokens,
            "update/entropy": self.values["entropy"] / tokens,
            "update/clip_fraction": self.values["clipped"] / tokens,
            "update/tokens": self.values["tokens"],
            "update/skipped": 0.0,
        }


def _loss(
    batch: PolicyBatch, microbatch: Microbatch, targets: slice, logprobs: Tensor, entropies: Tensor
) -> tuple[Tensor, Mapping[str, float]]:
    """Return a policy's part of the step's loss in a microbatch, and what `_Totals` is to add."""
    log_ratio = logprobs[targets] - microbatch.rollout_logprobs[targets]
    weights, sequences = microbatch.advantages[targets], microbatch.sequence_ids[targets]
    config = batch.loss
    loss = OBJECTIVES[config.objective](log_ratio, weights, sequences, config).sum() / divisor(batch.batch, config)
    if not microbatch.advantages.any():  # weightless rows are not of the step
        return loss, {}
    with torch.no_grad():
        outside = clipped(log_ratio, weights, sequences, config)
        return loss, _sums(loss, log_ratio, entropies[targets], outside)


def _sums(loss: Tensor, log_ratio: Tensor, entropies: Tensor, outside: Tensor) -> dict[str, float]:
    """Return a microbatch's sums, by the names of `_Totals`."""
    # k3 of Schulman (2020): unbiased for KL(rollout || policy) and never negative.
    k3 = (log_ratio.exp() - 1 - log_ratio).sum()
    parts = torch.stack([loss.float(), k3, entropies.sum(), outside.sum().float()]).tolist()
    return dict(zip(("loss", "kl", "entropy", "clipped"), parts, strict=True)) | {"tokens": float(len(log_ratio))}


def _gradients(losses: Sequence[Tensor], leaves: Sequence[Sequence[Tensor]]) -> Iterator[Sequence[Tensor | None]]:
    """Yield the gradients of all losses by each policy's leaves; None where a leaf had no part in them.

    They are returned and not added to `.grad`, because microbatches that are under way together would add theirs in
    whichever order they end.
    """
    flat = [leaf for policy_leaves in leaves for leaf in policy_leaves]
    gradients = iter(torch.autograd.grad(torch.stack(list(losses)).sum(), flat, allow_unused=True))
    for policy_leaves in leaves:
        yield [next(gradients) for _ in policy_leaves]


def _padding_row() -> Row:
    """One token that weighs nothing, for a peer that has less to do and must go through a sharded model with others."""
    return row_to_score([0, 0])


def row_to_score(sequence: Sequence[int]) -> Row:
    """A row whose 'prompt' is the first token and whose 'completion' is all the rest."""
    rest = torch.tensor(sequence[1:])
    return Row(
        token_ids=torch.tensor(sequence[:-1]),
        position_ids=torch.arange(len(sequence) - 1),
        segment_ids=torch.zeros(len(sequence) - 1, dtype=torch.long),
        predictors=torch.arange(len(rest)),
        targets=rest,
        sequence_ids=torch.zeros_like(rest),
        rollout_logprobs=torch.zeros(len(rest)),
        advantages=torch.zeros(len(rest)),
    )
