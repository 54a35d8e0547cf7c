"""The values of learning: graded groups go in, a batch of packed rows is learned from, an adapter comes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from jaxtyping import Bool, Float, Int
from torch import Tensor

from lora.files.array_pickle import reduce_as_arrays
from lora.types import Adapter
from rewards.types import Problem, Reward
from rollout.types import Completion

Ending = Literal["done", "turns", "tokens", "timeout", "crashed"]
"""The end of an episode: its environment's word, a budget that was used up, or a step that hung or failed."""


@dataclass(frozen=True, slots=True)
class Episode(Completion):
    """A completion of several turns, with what an environment said in between. `text` is the last turn's.

    Its finish reason is `length` where a budget ended it, or the token limit its last turn.
    """

    turns: tuple[Mapping[str, Any], ...] = ()
    """The messages behind the prompt, the policy's and the environment's."""
    ending: Ending = "done"
    num_turns: int = 1
    """Turns of the policy."""
    reward: Reward | None = None
    """The environment's, or of a step that hung or failed; None leaves it to the grader."""


@dataclass(frozen=True, slots=True)
class Group:
    """One problem and its graded completions, kept whole until tensors are built."""

    problem: Problem
    prompt: list[int]
    completions: list[Completion]
    rewards: list[Reward]


@dataclass(frozen=True, slots=True)
class Row:
    """One packed sequence: a prompt once, then several of its completions, each blind to the others.

    A completion's last token predicts nothing, so it is a target but never an input.
    Example: prompt [7, 8], completions [1, 2] and [3] give ``token_ids=[7, 8, 1]``, ``segment_ids=[0, 0, 1]``,
    ``predictors=[1, 2, 1]``, ``targets=[1, 2, 3]``, ``sequence_ids=[0, 0, 1]``. Tokens that a completion's `loss_mask`
    leaves out are inputs and no targets.
    """

    token_ids: Int[Tensor, " inputs"]
    position_ids: Int[Tensor, " inputs"]
    segment_ids: Int[Tensor, " inputs"]
    """0 is the prompt, which all may see; k is the k-th completion, seen by itself alone."""
    predictors: Int[Tensor, " targets"]
    """The input position whose hidden state predicts each target."""
    targets: Int[Tensor, " targets"]
    sequence_ids: Int[Tensor, " targets"]
    """Index of the completion in the row that each target belongs to, from 0."""
    rollout_logprobs: Float[Tensor, " targets"]
    advantages: Float[Tensor, " targets"]
    in_ratio: Bool[Tensor, " targets"] | None = None
    """The targets that make a datum's ratio, in requests whose loss has one ratio a datum; None stands for all."""
    routed_experts: Int[Tensor, "inputs blocks active"] | None = None
    """The experts that a sampler sent each input to, of one byte or two; None where it returned none."""

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce_as_arrays(self)


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """One step's rows. Completions that carry no signal are counted, and need no row."""

    rows: list[Row]
    num_tokens: int
    """Tokens of the whole step that its policy sampled, with and without signal."""
    num_sequences: int
    """Completions of the whole step, with and without signal."""
    most_tokens: int = 0
    """Most tokens that a completion could have had; 0 where none was sampled, as in supervised fine-tuning.

    The summed loss is divided by one of the two counts, or by completions times this constant.
    """


Under = Adapter | Literal["policy", "base", "teacher", "reference"]
"""Weights to score with: the policy as it is now, an adapter of its shape, the base model alone, or an adapter that the
policy's `PolicySpec` has besides."""


class LearnerDied(RuntimeError):
    """The learner's process ended, or was silent for `learner.stall_timeout` seconds."""


class Learner(Protocol):
    """Owns the trainable adapter and its optimizer."""

    async def publish(self) -> Adapter:
        """Return the policy as it is now."""
        ...

    async def update(self, batch: TrainBatch, *, lr_scale: float = 1.0) -> dict[str, float]:
        """Take one optimizer step at `lr_scale` times the configured learning rate; return the `update/...` metrics.

        A batch without rows changes nothing.
        """
        ...

    async def logprobs(self, batch: TrainBatch) -> list[Float[Tensor, " targets"]]:
        """Return logprobs of each row's targets under the policy as it is now, at the sampling temperature.

        Raises:
            ValueError: the learner has no such pass, and is asked for several updates a step.
        """
        raise ValueError("this learner takes one update a step: set learner.minibatches = 1 and learner.epochs = 1")

    async def score(self, sequences: Sequence[Sequence[int]], *, under: Under = "policy") -> list[list[float]]:
        """Return logprobs of every token but the first, in nats, at temperature 1.

        They are under the policy as it is now, or what else `under` names.
        """
        ...

    async def state(self) -> bytes:
        """Return everything that the next update depends on."""
        ...

    async def load_state(self, state: bytes) -> None:
        """Take up what `state` returned."""
        ...

    async def restart(self) -> None:
        """Begin anew after a death, as at the start of a run; `load_state` brings back what was learned.

        A learner in the caller's own process dies with it, so it has nothing to do here.
        """

    async def facts(self) -> Mapping[str, int]:
        """Return `trained_parameters` and `model_parameters`."""
        ...

    async def close(self) -> None:
        """Release the model."""
        ...
