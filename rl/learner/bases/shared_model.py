"""One base model and the policies that are trained on it: one batch may carry rows of several of them.

What the policies share is only read, so each gets the update that it would get alone: its rows see its adapter, its
loss is divided by its own tokens, and gradients meet nowhere. To the last bit it is that update only where policies do
not mix (`mix_policies`): a product of matrices rounds a row's numbers by how many rows there are beside it.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lora.base.dtype import torch_dtype
from lora.config import LoraConfig, ModelConfig
from lora.peft.description import Description
from lora.peft.files import unpack
from lora.trainable.full import FullWeights
from lora.trainable.inject import check_adapted, eject, inject
from lora.trainable.lora_layers import LoraLayers
from lora.trainable.tiny import TinyLayers
from lora.types import Adapter
from rl.learner.bases.ready_base import ready_base
from rl.learner.collectives import ProcessGroup, SingleProcess
from rl.learner.passes.forward import microbatches, target_logprobs
from rl.learner.passes.microbatch import Microbatch
from rl.learner.passes.microbatch_threads import Schedule, in_order, schedule
from rl.learner.passes.policy_loss import ForwardBackward, PolicyBatch, PolicyPart, Totals, differentiated, policy_part
from rl.learner.passes.router_replay import replay_of, routing_sums
from rl.learner.passes.scoring import row_to_score, score_sequences
from rl.learner.policies.policy import AdamConfig, Policy, PolicySpec
from rl.types import Row, Under

Compute = Callable[[Sequence[PolicyBatch], Microbatch], list[PolicyPart]]
"""Compute a microbatch of the policies whose indices its segments have."""


class SharedModel:
    """A frozen base model, on one device."""

    def __init__(
        self,
        model: ModelConfig,
        *,
        device: str = "cpu",
        tokens_per_microbatch: int = 4096,
        gradient_checkpointing: bool = False,
        compiled: bool = True,
        group: ProcessGroup | None = None,
        mix_policies: bool = True,
    ) -> None:
        """Load the model. With `mix_policies` one microbatch may hold rows of several policies; `compiled` blocks are
        for a GPU alone.

        Raises:
            ValueError: there is no such model, or it would not be trained on right numbers.
        """
        self.config = model
        self.device = device
        self.dtype = torch_dtype(model)
        self.tokens_per_microbatch = tokens_per_microbatch
        self._group = group or SingleProcess()
        # Parts of a sharded model are fetched together: all learners must differentiate the same blocks at a time.
        self._mix_policies = mix_policies and not self._group.lockstep
        self._base = ready_base(
            model, device, self._group,
            gradient_checkpointing=gradient_checkpointing, compiled=compiled, mix_policies=mix_policies,
        )  # fmt: skip
        self.model, self.packs = self._base.model, self._base.packs

    @property
    def vocab_size(self) -> int:
        """The number of tokens that the model knows: inputs and targets are below it."""
        causal_lm: Any = self.model
        return causal_lm.config.get_text_config().vocab_size

    def add(self, spec: PolicySpec) -> Policy:
        """Begin a policy. Raises ValueError if the model lacks a layer that it adapts, or experts that it replays."""
        if spec.learner.router_replay:
            self._base.recognise_routers()
        lora = spec.lora
        if spec.learner.weights == "full":
            return Policy(spec, FullWeights(self.model), Description(self.config.name, 0, 0.0, ()))
        targets = lora.all_targets
        layers = inject(self.model, lora, seed=spec.seed)
        check_adapted(self.model, layers)
        description = Description(self.config.name, lora.rank, lora.alpha, targets, layers.expert_rank)
        if lora.kind == "tiny":
            layers = TinyLayers(self.model, layers, lora, seed=spec.seed)
        policy = Policy(spec, layers, description)
        try:
            for name, adapter in spec.frozen.items():
                policy.frozen[name] = self._frozen(adapter)
        except ValueError:
            self.remove(policy)
            raise
        return policy

    def _frozen(self, adapter: Adapter) -> LoraLayers:
        """Put an adapter on the model that nothing trains. Raises ValueError if it does not fit."""
        tensors, description = unpack(adapter.payload)
        rank, alpha, targets = description.rank, description.alpha, tuple(description.targets)
        layers = inject(self.model, LoraConfig(rank=rank, alpha=alpha, targets=targets, allow_large_rank=True))
        try:
            layers.load(tensors)
        except ValueError:
            eject(self.model, layers)
            raise
        return layers

    def remove(self, policy: Policy) -> None:
        """End a policy; the others do not notice. All of a model's weights become what they were before it."""
        if isinstance(policy.weights, FullWeights):
            policy.weights.detach()
        for layers in (policy.weights, *policy.frozen.values()):
            if isinstance(layers, LoraLayers):
                eject(self.model, layers)

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
        active = self._active(batches)
        policies = list(dict.fromkeys(batch.policy for batch in active))
        with ExitStack() as stack:
            for policy in policies:
                stack.enter_context(policy.adding_gradients())
            totals = self._totals(active, self._differentiate)
            for policy in policies:
                self._sum_gradients(policy)
        for batch, total in totals.items():
            batch.policy.count_loss(total.values["loss"])
        return self._outputs(batches, totals)

    def forward(self, batches: Sequence[PolicyBatch]) -> list[ForwardBackward]:
        """Return what `forward_backward` would, to the bit, and add no gradient."""
        return self._outputs(batches, self._totals(self._active(batches), self._evaluate))

    def optim_step(self, policy: Policy, adam: AdamConfig) -> dict[str, float]:
        """Move a policy by the gradients it has, at all learners alike; return the metrics of that."""
        return policy.optim_step(adam, self.dtype, lambda sound: not self._group.max(int(not sound)))

    def score(self, sequences: Sequence[Sequence[int]], policy: Policy, under: Under = "policy") -> list[list[float]]:
        """Logprobs of every token but the first, at temperature 1, under a policy, an adapter of its shape, or others.

        Raises:
            ValueError: the adapter has another shape.
        """
        if isinstance(under, str) and under in policy.frozen:
            with policy.frozen[under].exclusively():
                return self._score(sequences)
        assert under not in ("teacher", "reference"), f"{policy.run} has no {under}"
        weights = policy.weights
        with weights.exclusively():
            if under == "policy":
                return self._score(sequences)
            with weights.disabled() if under == "base" else weights.swapped_in(unpack(under.payload)[0]):
                return self._score(sequences)

    def _score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        arguments = self.model, sequences, self.tokens_per_microbatch, self.device
        return score_sequences(*arguments, packed=self.packs, joined=self._base.joined)

    def _active(self, batches: Sequence[PolicyBatch]) -> list[PolicyBatch]:
        """Return the batches that have rows, here or at another learner."""
        return [batch for batch in batches if self._group.max(len(batch.batch.rows))]

    def _totals(self, active: Sequence[PolicyBatch], compute: Compute) -> dict[PolicyBatch, Totals]:
        """Compute all microbatches; return each batch's sums over all learners, and the logprobs of its rows here."""
        totals = {batch: Totals.of(batch) for batch in active}
        for together in [active] if self._mix_policies else [[batch] for batch in active]:
            for part in self._parts(together, compute):
                if part.gradients:
                    part.batch.policy.weights.accumulate(part.gradients)
                totals[part.batch].add(part)
        for total in totals.values():
            total.values = self._group.sum_values(total.values)
        return totals

    def _outputs(self, batches: Sequence[PolicyBatch], totals: dict[PolicyBatch, Totals]) -> list[ForwardBackward]:
        return [
            ForwardBackward(total.metrics(), self._by_row(batch.batch.rows, total))
            if (total := totals.get(batch)) is not None
            else ForwardBackward.without_rows(batch)
            for batch in batches
        ]

    def _parts(self, together: Sequence[PolicyBatch], compute: Compute) -> Iterator[PolicyPart]:
        """Yield the parts of all microbatches, in the microbatches' order."""
        plan = self._schedule(together)
        for parts in in_order(plan, partial(compute, together), self._microbatches(together, plan.tokens)):
            yield from parts

    def _by_row(self, rows: Sequence[Row], total: Totals) -> list[Float[Tensor, " targets"]]:
        """Return the logprobs of each row's targets. Microbatches have a policy's longest rows first."""
        readable = self._base.readable(rows)
        order = sorted(range(len(readable)), key=lambda i: -len(readable[i].token_ids))
        lengths = [len(readable[i].targets) for i in order]
        logprobs = torch.cat([*total.logprobs, torch.zeros(0)])
        by_readable = dict(zip(order, logprobs.split(lengths), strict=True)) if order else {}
        joined = torch.cat([by_readable[i] for i in range(len(readable))]) if order else logprobs
        return list(joined.split([len(row.targets) for row in rows]))

    def _schedule(self, active: Sequence[PolicyBatch]) -> Schedule:
        cores = torch.get_num_threads()
        if not self._base.side_by_side:
            return Schedule(1, cores, self.tokens_per_microbatch)
        lengths = [len(row.token_ids) for batch in active for row in self._base.readable(batch.batch.rows)]
        return schedule(lengths, self.tokens_per_microbatch, cores)

    def _microbatches(self, active: Sequence[PolicyBatch], tokens: int) -> list[Microbatch]:
        rows_of = [self._base.readable(batch.batch.rows) for batch in active]
        rows = list(itertools.chain.from_iterable(rows_of))
        policy_indices = [index for index, rows in enumerate(rows_of) for _ in rows]
        parts = microbatches(rows, tokens, self.device, policy_indices, joined=self._base.joined)
        if self._group.lockstep and active:
            missing = self._group.max(len(parts)) - len(parts)
            (padding,) = microbatches([_padding_row()], 1, self.device, joined=self._base.joined)
            parts += [replace(padding, is_padding=True)] * missing
        return parts

    def _differentiate(self, together: Sequence[PolicyBatch], microbatch: Microbatch) -> list[PolicyPart]:
        """Return what a microbatch adds to its policies."""
        return self._base.blocks.or_plain(lambda: differentiated(self._forward(together, microbatch)))

    @torch.no_grad()
    def _evaluate(self, together: Sequence[PolicyBatch], microbatch: Microbatch) -> list[PolicyPart]:
        """Return the same without gradients."""
        return self._forward(together, microbatch)

    def _forward(self, together: Sequence[PolicyBatch], microbatch: Microbatch) -> list[PolicyPart]:
        """Return the losses of a microbatch's policies.

        Several threads are in here at once: nothing that they share is changed.
        """
        temperatures = torch.ones_like(microbatch.advantages)
        for segment in microbatch.segments:
            temperatures[segment.targets] = together[segment.policy_index].temperature
        weights = [batch.policy.weights for batch in together]
        replay, base = replay_of(together, microbatch), None
        if any(batch.needs_base for batch in together):  # it follows from settings: learners in lockstep agree on it
            with self._base.choosing(replay and replay.again()):
                base = self._reference_logprobs(together, microbatch, temperatures)
        entropies = any(batch.needs_entropy_gradients for batch in together)
        arguments = self.model, microbatch, temperatures, weights
        with self._base.choosing(replay):
            scored = target_logprobs(*arguments, packed=self.packs, entropy_gradients=entropies)
        return [
            policy_part(
                together[segment.policy_index],
                microbatch,
                segment.targets,
                *scored,
                base,
                routing_sums(replay, segment.inputs),
            )
            for segment in microbatch.segments
        ]

    @torch.no_grad()
    def _reference_logprobs(
        self, together: Sequence[PolicyBatch], microbatch: Microbatch, temperatures: Tensor
    ) -> Tensor:
        """Return each target's logprob under what its policy is compared with: the base model, or an adapter."""
        whole: dict[int, Tensor] = {}
        logprobs = torch.zeros_like(microbatch.rollout_logprobs)
        for segment in microbatch.segments:
            policy = together[segment.policy_index].policy
            reference = policy.frozen.get("reference")
            if id(reference) not in whole:
                with policy.weights.disabled() if reference is None else reference.exclusively():
                    scores = target_logprobs(self.model, microbatch, temperatures, packed=self.packs)
                whole[id(reference)] = scores[0]
            logprobs[segment.targets] = whole[id(reference)][segment.targets]
        return logprobs

    def _sum_gradients(self, policy: Policy) -> None:
        """Sum a policy's gradients over all learners."""
        for parameter in policy.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._group.sum([parameter.grad for parameter in policy.parameters if parameter.grad is not None])


def _padding_row() -> Row:
    """One token that weighs nothing, for a peer that has less to do and must go through a sharded model with others."""
    return row_to_score([0, 0])
