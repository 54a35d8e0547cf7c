"""A run's cost and what it can learn, from its configuration, the model's, and the data alone: no weights are read."""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from lora.accounting import LinearKind, advice, kept_numbers, linear_kinds, model_parameters, trained_numbers
from lora.base.architecture import attends_only
from lora.base.dtype import torch_dtype
from lora.base.load import load_skeleton
from lora.base.quantize import weight_bytes
from rl.algorithm.batch.minibatches import several
from rl.algorithm.objective.regularizers import needs_base
from rl.config import RunConfig, replaced
from rl.data import ProblemStream
from rl.launch.train_recipe import TRAIN
from rl.learner.bases.frozen_model import FrozenSpec
from rl.learner.memory.plan import FULL_BYTES, Budget, LearnerMemory

BITS_PER_PARAMETER = 1.0
"""An adapter holds that much with ease: rank 1 was full at 1.1 (docs/study.md, `bench/capacity.py`). A network that is
trained for long can store about 2 (Allen-Zhu and Li, "Physics of Language Models: Part 3.3", 2024)."""
BITS_PER_EPISODE = 1.0
"""An advantage can tell that much, at most in order of magnitude ("LoRA Without Regret", 2025)."""
NUM_PROMPTS = 256
"""Whose lengths are looked at."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run's figures. Sizes are in bytes; a step's tokens and FLOPs are upper bounds: every completion as long as it
    may be, and every group with signal."""

    config: RunConfig
    kinds: list[LinearKind]
    model_parameters: int
    weight_bytes: int
    """Bytes of the base model, as it is kept."""
    memory: LearnerMemory
    kv_bytes_per_token: int
    prompt_tokens: float
    """Mean over the problems that were looked at."""
    packs: bool = True
    """True if completions of a prompt share it, false if each is read behind a prompt of its own."""
    teacher_weights: int = 0
    """Numbers in the linear layers of a teacher's own model, if there is one."""
    teacher_bytes: float = 0.0
    """Bytes of that model, as it is kept."""

    @property
    def trained(self) -> int:
        """Numbers that training changes."""
        return trained_numbers(self.kinds, self.config.lora)

    @property
    def adapter_bytes(self) -> int:
        """Size of a published adapter, in the model's type."""
        numbers = sum(kind.trained(self.config.lora.rank) for kind in self.kinds)
        return numbers * torch_dtype(self.config.model).itemsize

    @property
    def episodes(self) -> int:
        """Completions that the whole run learns from."""
        return self.config.num_steps * self.config.problems_per_step * self.config.sampling.group_size

    @property
    def bits_taught(self) -> float:
        return BITS_PER_EPISODE * self.episodes

    @property
    def bits_held(self) -> float:
        return BITS_PER_PARAMETER * self.trained

    @property
    def holds_all(self) -> bool:
        """Return True if the adapter holds all that the run can teach."""
        return self.bits_taught <= self.bits_held

    @property
    def supervised_bits(self) -> float:
        """Bits that the same tokens could teach if they were given as examples: about one each."""
        return float(self.episodes * self.config.most_sampled)

    @property
    def rounds(self) -> int:
        """Times that a step samples, at most: `curriculum.refill_rounds` more than once."""
        return 1 + self.config.curriculum.refill_rounds

    @property
    def sampled_tokens(self) -> int:
        """Tokens sampled in one step, at most."""
        return self.rounds * self._completion_tokens

    @property
    def _completion_tokens(self) -> int:
        return self.config.problems_per_step * self.config.sampling.group_size * self.config.most_sampled

    @property
    def learned_tokens(self) -> float:
        """Tokens learned from in one epoch of a step, a group's prompt counted as often as it is read."""
        prompts = self.config.problems_per_step * (1 if self.packs else self.config.sampling.group_size)
        return self._completion_tokens + prompts * self.prompt_tokens

    @property
    def scored_tokens(self) -> float:
        """Tokens that the learner reads in one step besides, without gradients: for a KL, a teacher, the old policy."""
        learner = self.config.learner
        in_rows = (learner.epochs if needs_base(learner) else 0) + several(self.config)
        alone = (learner.kl_in == "reward" and learner.kl_coef > 0) + self.config.teacher.on
        return in_rows * self.learned_tokens + alone * self._alone_tokens

    @property
    def _alone_tokens(self) -> float:
        """Tokens of a step's completions, each behind a prompt of its own."""
        completions = self.config.problems_per_step * self.config.sampling.group_size
        return self._completion_tokens + completions * self.prompt_tokens

    def update_flops(self, rank: int | None) -> float:
        """Return the FLOPs of one step's linear layers in all of its epochs, two for a multiply-add.

        ``rank`` None is full fine-tuning.
        """
        return (
            2 * self.config.learner.epochs * self.learned_tokens * sum(kind.multiply_adds(rank) for kind in self.kinds)
        )

    @property
    def sample_flops(self) -> float:
        """FLOPs of one step's linear layers, in all of its rounds."""
        return 2 * self.rounds * self.learned_tokens * sum(kind.weights for kind in self.kinds)

    @property
    def score_flops(self) -> float:
        """FLOPs of the linear layers for `scored_tokens`."""
        by_teacher = self._alone_tokens if self.teacher_weights else 0.0
        own = (self.scored_tokens - by_teacher) * sum(kind.weights for kind in self.kinds)
        return 2 * (own + by_teacher * self.teacher_weights)

    @property
    def flops_ratio(self) -> float:
        """LoRA's update over full fine-tuning's: two thirds, and a little for the adapter."""
        return self.update_flops(self.config.lora.rank) / self.update_flops(None)

    @property
    def learner_bytes(self) -> float:
        """Weights, adapter with its optimizer, and the activations of the largest microbatch that there can be; without
        gradient checkpointing unless the configuration asks for it."""
        return self.memory.bytes(checkpointing=self.config.learner.gradient_checkpointing is True)

    @property
    def full_bytes(self) -> float:
        """The same for full fine-tuning."""
        replaced_bytes = self.memory.weights + self.memory.trained
        return self.learner_bytes + self.model_parameters * FULL_BYTES - replaced_bytes

    @property
    def rollout_bytes(self) -> float:
        """A worker's: weights, and a cache for all that it may have in flight."""
        sequences = min(self.config.rollout.max_concurrent, self._completion_tokens // self.config.most_sampled)
        longest = self.prompt_tokens + self.config.longest_trained
        return (
            self.weight_bytes / self.config.rollout.tensor_parallel_size + sequences * longest * self.kv_bytes_per_token
        )

    def warnings(self) -> list[str]:
        completions = self.config.problems_per_step * self.config.sampling.group_size
        warnings = advice(self.model_parameters, self.config.lora, self.config.learner.lr, completions)
        is_tiny = self.config.lora.kind == "tiny"
        if not self.holds_all:
            remedy = (
                "raise lora.u, or lower lora.weight_tying" if is_tiny else f"raise lora.rank to {self._rank_needed()}"
            )
            warnings.append(
                f"the run may teach {self.bits_taught:,.0f} bits and the adapter holds about {self.bits_held:,.0f}: "
                + remedy
            )
        elif not is_tiny and (rank := self._rank_needed()) < self.config.lora.rank:
            warnings.append(
                f"lora.rank = {self.config.lora.rank} holds more than this run can teach: rank {rank} is enough"
            )
        return warnings

    def _rank_needed(self) -> int:
        """The smallest rank that holds what the run can teach."""
        of_rank_1 = BITS_PER_PARAMETER * sum(kind.trained(1) for kind in self.kinds)
        return max(1, -int(-self.bits_taught // of_rank_1))


def plan_run(config: RunConfig, base: Path) -> Plan:
    """Return the plan of a run by reinforcement learning; relative paths start at `base`.

    Raises:
        ValueError: as the recipe's `prepare` and `plan` do.
    """
    on_gpu = replaced(config, model={"dtype": "bfloat16"}) if config.model.dtype == "auto" else config
    prepared = TRAIN.prepare(on_gpu, base)
    config, train = prepared.config, prepared.problems.train
    # As the run draws: a file may be sorted by length.
    first = ProblemStream.of(train, config.sources, config.seed).draw(range(min(NUM_PROMPTS, len(train))))
    return plan(config, [len(prepared.encode(problem)) for problem in first], prepared.longest_row)


def plan(config: RunConfig, prompt_lengths: list[int], longest_row: int) -> Plan:
    """The plan of a run whose prompts have about these lengths, in tokens, and whose rows at most so many inputs.

    Raises:
        ValueError: there is no such model, or a target names no layer of it.
    """
    skeleton: Any = load_skeleton(config.model)
    own = config.teacher.own_model(config.model)
    teacher = None if own is None else FrozenSpec(own)
    budget = Budget(longest_row, beside=0.0 if teacher is None else teacher.bytes)
    return Plan(
        config,
        linear_kinds(skeleton, config.lora),
        model_parameters(skeleton),
        weight_bytes(skeleton, config.model),
        LearnerMemory.of(skeleton, config.model, config.lora, config.learner, budget),
        kv_bytes_per_token=kept_numbers(skeleton) * torch_dtype(config.model).itemsize,
        prompt_tokens=fmean(prompt_lengths),
        packs=attends_only(skeleton),
        teacher_weights=0 if teacher is None else teacher.linear_weights,
        teacher_bytes=budget.beside,
    )
