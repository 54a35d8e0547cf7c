"""The division of a cluster's GPUs among learners and rollout workers, by what a step is estimated to cost each.

A rollout reads the model's weights and the sequences' keys and values once a token; an update multiplies with the
weights. What of a GPU's rates is reached are public figures of vLLM and of dense training, as in `bench/scaling.py`.
Only the ratio of the two times matters here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Literal, Self

from lora.accounting import kept_numbers, linear_kinds
from lora.base.dtype import torch_dtype
from lora.base.load import load_skeleton
from lora.base.quantize import weight_bytes
from rl.algorithm.batch.minibatches import several
from rl.cluster.placement import PlacementError, Request, Resources, request, worker_places
from rl.config import RunConfig, replaced
from rl.learner.bases.frozen_model import FrozenSpec

FLOPS = 0.4 * 990e12
"""Operations of a learner a second: an H100's, at the share that dense training reaches."""
BANDWIDTH = 0.6 * 3.35e12
"""Bytes that a decoding engine reads a second."""
OVERHEAD_S = 2e-3
"""Of a decoding step, whatever it computes."""


@dataclass(frozen=True, slots=True)
class StepCosts:
    """Costs of one step, every completion being as long as it may."""

    update_flops: float
    weight_bytes: float
    sequence_bytes: float
    """Keys and values of a sequence that is half done."""
    sequences: int
    tokens: int
    """Of a sequence."""
    concurrent: int
    """Sequences that a worker generates at once."""
    gpus_per_worker: int

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """Count a run's, from its model's shapes. Raises ValueError if there is no such model."""
        skeleton, size = load_skeleton(config.model), torch_dtype(config.model).itemsize
        sequences, tokens = config.problems_per_step * config.sampling.group_size, config.most_sampled
        kinds = linear_kinds(skeleton, config.lora)
        update, forward = sum(k.multiply_adds(config.lora.rank) for k in kinds), sum(k.weights for k in kinds)
        per_token = config.learner.epochs * update + _more_passes(config) * forward + _teacher_weights(config, forward)
        return cls(
            update_flops=2.0 * sequences * tokens * per_token,
            weight_bytes=float(weight_bytes(skeleton, config.model)),
            sequence_bytes=float(size * kept_numbers(skeleton)) * tokens / 2,
            sequences=sequences,
            tokens=tokens,
            concurrent=config.rollout.max_concurrent,
            gpus_per_worker=config.rollout.tensor_parallel_size,
        )

    def update_s(self, learners: int) -> float:
        """Return the seconds of an update."""
        return self.update_flops / FLOPS / learners

    def rollout_s(self, workers: int) -> float:
        """Return the seconds of sampling."""
        share = ceil(self.sequences / workers)
        rounds, together = ceil(share / self.concurrent), min(share, self.concurrent)
        read = (self.weight_bytes + together * self.sequence_bytes) / self.gpus_per_worker
        return rounds * self.tokens * (OVERHEAD_S + read / BANDWIDTH)

    def step_s(self, learners: int, workers: int, *, in_turn: bool) -> tuple[float, float]:
        """Return the seconds of a step, in which both work at once unless `in_turn`; then those of the shorter part."""
        longer, shorter = sorted((self.update_s(learners), self.rollout_s(workers)), reverse=True)
        return (longer + shorter if in_turn else longer), shorter


def _more_passes(config: RunConfig) -> int:
    """Return the forward passes of a step beside its updates: over the old policy, and over the base model."""
    learner, old = config.learner, int(several(config))
    base = learner.epochs + old if learner.kl_in == "loss" else 1  # wherever the loss is computed, or once
    return old + (base if learner.kl_coef else 0)


def _teacher_weights(config: RunConfig, forward: int) -> int:
    """Return the numbers that a teacher's pass multiplies a token with; on the run's own model these are `forward`."""
    own = config.teacher.own_model(config.model)
    if own is not None:
        return FrozenSpec(own).linear_weights
    return forward if config.teacher.on else 0


def divide_gpus(config: RunConfig, nodes: Sequence[Resources], free: int, *, learner: bool, workers: bool) -> RunConfig:
    """Return the configuration with the nodes' `free` GPUs in use: what is "auto" becomes a number.

    No learner is left without rows, and no worker without completions. With fewer than two free GPUs, or where nothing
    is "auto", or where no number fits the nodes, it is as it was.
    """
    undecided = (learner and config.learner.num_learners == "auto") or (
        workers and config.rollout.num_workers == "auto"
    )
    if free < 2 or not undecided:
        return config
    most_learners = _most_learners(config, free) if learner else 1
    most_workers = _most_workers(config, free, learner=learner) if workers else 1

    counts = _numbers(config.learner.num_learners, most_learners)
    numbers = _numbers(config.rollout.num_workers, most_workers)
    try:
        fewest = _with_counts(config, counts[0], numbers[0])
        asked = request(fewest, nodes, learner=learner, workers=workers, may_grow=False)
    except PlacementError:
        return config
    room = _room(asked, nodes, free)
    divisions = [
        (count, engines)
        for count in counts
        if (engines := max((number for number in numbers if number <= room.get(count if learner else 0, 0)), default=0))
    ]
    if not divisions:
        return config
    if max(most_learners, most_workers) == 1 or not (learner and workers) or config.learner.weights == "full":
        return _with_counts(config, *max(divisions))
    costs, in_turn = StepCosts.of(config), _in_turn(config)
    return _with_counts(config, *min(divisions, key=lambda counts: costs.step_s(*counts, in_turn=in_turn)))


def _room(asked: Request, nodes: Sequence[Resources], free: int) -> dict[int, float]:
    """Return how many workers there may be beside each number of learners that the nodes hold.

    The bundles are those of any numbers: on more than one GPU nobody shares one.
    """
    learner, worker = (0.0 if each is None else each.get("GPU", 0.0) for each in (asked.learner, asked.worker))
    room: dict[int, float] = {}
    for learners, places in enumerate(worker_places(asked.learner, asked.worker, nodes)):
        left = free - learners * learner
        if left < 0:
            break
        fitting = min(places, left // worker) if worker else places
        room[learners] = fitting if asked.workers else inf
    return room


def _in_turn(config: RunConfig) -> bool:
    """Return True if nothing is sampled while the learner works."""
    if config.steps_in_flight is None:
        return config.max_off_policy_steps == 0
    return round(config.steps_in_flight * config.problems_per_step) <= config.problems_per_step


def _most_learners(config: RunConfig, free: int) -> int:
    """Return the most that have rows of each minibatch. All weights' gradients are too much to exchange without being
    asked."""
    alone = config.learner.device == "cpu" or config.learner.weights == "full"
    return 1 if alone else min(free, config.problems_per_step // config.learner.minibatches)


def _most_workers(config: RunConfig, free: int, *, learner: bool) -> int:
    """Return the most that have completions to write; a run that only evaluates with them has one."""
    if learner:
        supervised = config.learner.objective == "cross_entropy"
        return 1 if supervised else min(free, config.problems_per_step * config.sampling.group_size)
    answers = config.evaluate.num_problems * config.evaluate.samples_per_problem
    return min(free, max(1, ceil(answers / config.rollout.max_concurrent)))


def _numbers(setting: int | Literal["auto"], most: int) -> Sequence[int]:
    """Return the numbers that there may be of something."""
    return range(1, most + 1) if setting == "auto" else [setting]


def _with_counts(config: RunConfig, learners: int, workers: int) -> RunConfig:
    """Put numbers in place of what is "auto"."""
    learner = {"num_learners": learners} if config.learner.num_learners == "auto" else {}
    rollout = {"num_workers": workers} if config.rollout.num_workers == "auto" else {}
    return replaced(config, learner=learner, rollout=rollout)
