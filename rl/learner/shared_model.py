"""One base model and the policies that are trained on it: one batch may carry rows of several of them.

What the policies share is only read, so each gets the update that it would get alone: its rows see its adapter, its
loss is divided by its own tokens, and gradients meet nowhere.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
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
from rl.learner.collectives import ProcessGroup, SingleProcess
from rl.learner.forward import Microbatch, check_head, microbatches, target_logprobs
from rl.learner.microbatch_threads import Schedule, changes_itself, in_order, schedule
from rl.learner.packed_attention import use_packed_attention
from rl.learner.packing_check import check_rows, read_alone
from rl.learner.policy import Policy, PolicySpec
from rl.learner.recompute import recompute_blocks
from rl.learner.sharding import shard_blocks
from rl.types import Row, TrainBatch


@dataclass(frozen=True, slots=True, eq=False)
class PolicyBatch:
    """One policy's part of a joint update."""

    policy: Policy
    batch: TrainBatch
    lr_scale: float = 1.0


class SharedModel:
    """A frozen base model, on one device."""

    def __init__(
        self,
        model: ModelConfig,
        *,
        device: str = "cpu",
        tokens_per_microbatch: int = 4096,
        gradient_checkpointing: bool = False,
        peers: ProcessGroup | None = None,
    ) -> None:
        """Raises ValueError if there is no such model, or it would not be trained on right numbers."""
        self.config = model
        self.device = device
        self.dtype: torch.dtype = getattr(torch, model.dtype)
        self._tokens = tokens_per_microbatch
        self._peers = peers or SingleProcess()
        loaded: Any = load_base(model)
        if self._peers.lockstep:
            shard_blocks(loaded, device)
        self.model: nn.Module = loaded.to(device).eval()
        with in_one_line(loaded.config.model_type):
            self.packs = self._prepare()
            """Whether several completions may share a row; else each is read alone."""
        # Attention and what is around it keep nothing from one pass to the next; of other layers that is not known.
        one_device = device == "cpu" and not self._peers.lockstep
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
        """End a policy; the others do not notice."""
        assert isinstance(policy.layers, LoraLayers)
        eject(self.model, policy.layers)

    def update(self, work: Sequence[PolicyBatch]) -> list[dict[str, float]]:
        """One optimizer step of each policy, from its own batch; the `update/...` metrics of each.

        A policy whose batch has no rows, here and at all peers, is left as it is.
        """
        learning = [one for one in work if self._peers.max(len(one.batch.rows))]
        for one in learning:
            one.policy.optimizer.zero_grad()
        sums = [_Sums() for _ in learning]
        plan = self._schedule(learning)
        for parts in in_order(plan, partial(self._differentiate, learning), self._microbatches(learning, plan.tokens)):
            for part in parts:
                learning[part.owner].policy.layers.accumulate(part.gradients)
                sums[part.owner].add(part.sums)
        self._add_up(learning, sums)
        metrics = [{"update/skipped": 1.0} for _ in work]
        for one, mine in zip(learning, sums, strict=True):
            finite = math.isfinite(mine.values["loss"])
            stepped = one.policy.step(one.lr_scale, self.dtype, finite=finite, agreed=self._agreed)
            metrics[work.index(one)] = mine.metrics() | stepped
        return metrics

    def _agreed(self, sound: bool) -> bool:
        """True where a step is sound at all peers."""
        return not self._peers.max(int(not sound))

    def score(
        self, sequences: Sequence[Sequence[int]], policy: Policy, under: Adapter | Literal["policy", "base"] = "policy"
    ) -> list[list[float]]:
        """Logprobs of every token but the first, at temperature 1, under a policy, an adapter of its shape or the base.

        Raises:
            ValueError: the adapter has another shape.
        """
        layers = policy.layers
        with layers.exclusively():
            if under == "policy":
                return self._score(sequences)
            with layers.disabled() if under == "base" else layers.swapped_in(unpack(under.payload)[0]):
                return self._score(sequences)

    @torch.no_grad()
    def _score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        by_length = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))  # the microbatches' own order
        shares = microbatches([row_to_score(sequences[i]) for i in by_length], self._tokens, self.device)
        logprobs = torch.cat([target_logprobs(self.model, share, packed=self.packs)[0] for share in shares])
        scores = logprobs.split([len(sequences[i]) - 1 for i in by_length])
        return [scores[by_length.index(i)].tolist() for i in range(len(sequences))]

    def _rows(self, learning: Sequence[PolicyBatch]) -> list[list[Row]]:
        """Each policy's, as the model may read them."""
        return [one.batch.rows if self.packs else unpack_rows(one.batch.rows) for one in learning]

    def _schedule(self, learning: Sequence[PolicyBatch]) -> Schedule:
        cores = torch.get_num_threads()
        if not self._side_by_side:
            return Schedule(1, cores, self._tokens)
        lengths = [len(row.token_ids) for mine in self._rows(learning) for row in mine]
        return schedule(lengths, self._tokens, cores)

    def _microbatches(self, learning: Sequence[PolicyBatch], tokens: int) -> list[Microbatch]:
        rows_of = self._rows(learning)
        rows = list(itertools.chain.from_iterable(rows_of))
        owners = [owner for owner, mine in enumerate(rows_of) for _ in mine]
        shares = microbatches(rows, tokens, self.device, owners)
        if self._peers.lockstep and learning:
            missing = self._peers.max(len(shares)) - len(shares)
            shares += microbatches([_padding_row()], 1, self.device) * missing
        return shares

    def _differentiate(self, learning: Sequence[PolicyBatch], share: Microbatch) -> list["_Part"]:
        """What a microbatch adds to its policies' steps. The divisor is a whole step's, so parts add up exactly.

        Several threads are in here at once: nothing that they share is changed.
        """
        temperatures = torch.ones_like(share.advantages)
        for segment in share.segments:
            temperatures[segment.targets] = learning[segment.policy_index].policy.spec.temperature
        owners = [one.policy.layers for one in learning]
        logprobs, entropies = target_logprobs(self.model, share, temperatures, owners, packed=self.packs)
        losses: list[Tensor] = []
        sums: list[Mapping[str, float]] = []
        for segment in share.segments:
            loss, values = _loss(learning[segment.policy_index], share, segment.targets, logprobs, entropies)
            losses.append(loss)
            sums.append(values)
        leaves = [learning[segment.policy_index].policy.layers.leaves() for segment in share.segments]
        return [
            _Part(segment.policy_index, gradients, values)
            for segment, gradients, values in zip(share.segments, _gradients(losses, leaves), sums, strict=True)
        ]

    def _add_up(self, learning: Sequence[PolicyBatch], sums: Sequence["_Sums"]) -> None:
        """Gradients and sums over all peers."""
        for one, mine in zip(learning, sums, strict=True):
            for parameter in one.policy.parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            self._peers.sum([parameter.grad for parameter in one.policy.parameters if parameter.grad is not None])
            mine.values = self._peers.sum_values(mine.values)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one microbatch adds to one policy's step."""

    owner: int
    gradients: Sequence[Tensor | None]
    sums: Mapping[str, float]


@dataclass(slots=True)
class _Sums:
    """Over the tokens of a step that carry a signal."""

    values: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("loss", "tokens", "kl", "entropy", "cut"), 0.0)
    )

    def add(self, more: Mapping[str, float]) -> None:
        for name, value in more.items():
            self.values[name] += value

    def metrics(self) -> dict[str, float]:
        tokens = self.values["tokens"]
        return {
            "update/loss": self.values["loss"],
            "update/kl_sampler_learner": self.values["kl"] / tokens,
            "update/entropy": self.values["entropy"] / tokens,
            "update/clip_fraction": self.values["cut"] / tokens,
            "update/tokens": tokens,
            "update/skipped": 0.0,
        }


def _loss(
    one: PolicyBatch, share: Microbatch, mine: slice, logprobs: Tensor, entropies: Tensor
) -> tuple[Tensor, Mapping[str, float]]:
    """A policy's part of the step's loss in a microbatch, and what `_Sums` is to add."""
    log_ratio = logprobs[mine] - share.rollout_logprobs[mine]
    weights, sequences = share.advantages[mine], share.sequence_ids[mine]
    config = one.policy.spec.learner
    loss = OBJECTIVES[config.objective](log_ratio, weights, sequences, config).sum() / divisor(one.batch, config)
    if not share.advantages.any():  # weightless rows are not of the step
        return loss, {}
    with torch.no_grad():
        cut = clipped(log_ratio, weights, sequences, config)
        return loss, _sums(loss, log_ratio, entropies[mine], cut)


def _sums(loss: Tensor, log_ratio: Tensor, entropies: Tensor, cut: Tensor) -> dict[str, float]:
    """A microbatch's, by the names of `_Sums`."""
    # k3 of Schulman (2020): unbiased for KL(rollout || policy) and never negative.
    k3 = (log_ratio.exp() - 1 - log_ratio).sum()
    parts = torch.stack([loss.float(), k3, entropies.sum(), cut.sum().float()]).tolist()
    return dict(zip(("loss", "kl", "entropy", "cut"), parts, strict=True)) | {"tokens": float(len(log_ratio))}


def _gradients(losses: Sequence[Tensor], leaves: Sequence[Sequence[Tensor]]) -> Iterator[Sequence[Tensor | None]]:
    """Of all losses by each policy's leaves; None where a leaf had no part in them.

    They are returned and not added to `.grad`, because microbatches that are under way together would add theirs in
    whichever order they end.
    """
    flat = [leaf for mine in leaves for leaf in mine]
    gradients = iter(torch.autograd.grad(torch.stack(list(losses)).sum(), flat, allow_unused=True))
    for mine in leaves:
        yield [next(gradients) for _ in mine]


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
