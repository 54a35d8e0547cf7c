"""Free-form training data, as a request brings them: inputs, and any targets that their outputs are scored on.

Nothing is shifted here. A sequence of tokens is trained on as inputs ``x[:-1]`` and targets ``x[1:]``, which whoever
makes a datum does; targets need not be the inputs' next tokens, and there may be several at a position.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rl.types import Row, TrainBatch


@dataclass(frozen=True, slots=True, eq=False)
class Datum:
    """One sequence and its targets. Weights and logprobs have the targets' shape.

    Example: ``Datum(tokens[:-1], tokens[1:], weights=torch.ones(n - 1), rollout_logprobs=torch.zeros(n - 1))``
    """

    token_ids: Int[Tensor, " inputs"]
    targets: Int[Tensor, " inputs"] | Int[Tensor, "inputs k"]
    """Scored by the output at the same position; k of them at each if it is a matrix."""
    weights: Float[Tensor, " inputs"] | Float[Tensor, "inputs k"]
    """The weights of `cross_entropy`, or advantages."""
    rollout_logprobs: Float[Tensor, " inputs"] | Float[Tensor, "inputs k"]
    """The sampler's; zeros for `cross_entropy`."""
    in_ratio: Bool[Tensor, " inputs"] | None = None
    """The positions that make the datum's ratio, for `gspo`; None stands for all."""


def datum_row(datum: Datum) -> Row:
    """Return the row in which every position predicts each of its targets.

    Raises:
        ValueError: lengths differ, or a position outside of `gspo`'s mask has an advantage.
    """
    _check_shapes(datum)
    inputs, width = len(datum.token_ids), _targets_at_a_position(datum)
    predictors = torch.arange(inputs).repeat_interleave(width)
    targets = datum.targets.long().flatten()
    return Row(
        token_ids=datum.token_ids.long(),
        position_ids=torch.arange(inputs),
        segment_ids=torch.zeros(inputs, dtype=torch.long),
        predictors=predictors,
        targets=targets,
        sequence_ids=torch.zeros_like(targets),
        rollout_logprobs=datum.rollout_logprobs.float().flatten(),
        advantages=datum.weights.float().flatten(),
        in_ratio=None if datum.in_ratio is None else datum.in_ratio[predictors],
    )


def datum_batch(data: Sequence[Datum]) -> TrainBatch:
    """Return one request's data, a row each. Raises ValueError as `datum_row`."""
    rows = [datum_row(datum) for datum in data]
    return TrainBatch(rows, num_tokens=sum(len(row.targets) for row in rows), num_sequences=len(rows))


def datum_logprobs(datum: Datum, logprobs: Float[Tensor, " targets"]) -> Float[Tensor, "..."]:
    """Return the logprobs of a datum's row in the shape of its targets."""
    return logprobs.reshape(datum.targets.shape)


def check_datum(datum: Datum, vocab_size: int, max_length: int) -> None:
    """See that a model of that vocabulary and context can compute a datum.

    Raises:
        ValueError: it has no tokens or too many, a token that the model does not know, or a number that is not finite.
    """
    if not 1 <= len(datum.token_ids) <= max_length:
        raise ValueError(f"model_input must have 1 to {max_length} tokens, and has {len(datum.token_ids)}")
    for name, ids in (("model_input", datum.token_ids), ("target_tokens", datum.targets)):
        strange = ids[(ids < 0) | (ids >= vocab_size)]
        if strange.numel():
            raise ValueError(f"{name} holds {int(strange[0])}, and the model's tokens are 0 to {vocab_size - 1}")
    for name, numbers in (("weights or advantages", datum.weights), ("logprobs", datum.rollout_logprobs)):
        strange = numbers[~numbers.isfinite()]
        if strange.numel():
            raise ValueError(f"{name} hold {strange[0].item()}: send finite numbers, and 0 where nothing is learned")


def _check_shapes(datum: Datum) -> None:
    inputs, shape = len(datum.token_ids), list(datum.targets.shape)
    if datum.token_ids.dim() != 1 or inputs == 0:
        raise ValueError("model_input has no tokens: send at least one")
    if len(shape) not in (1, 2) or shape[0] != inputs or 0 in shape:
        raise ValueError(
            f"target_tokens has shape {shape}, and model_input {inputs} tokens: send [{inputs}], or [{inputs}, K] for "
            "K targets at each"
        )
    for name, numbers in (("weights or advantages", datum.weights), ("logprobs", datum.rollout_logprobs)):
        if list(numbers.shape) != shape:
            raise ValueError(f"{name} have shape {list(numbers.shape)}, and target_tokens {shape}: send one for each")
    _check_ratio_mask(datum)


def _check_ratio_mask(datum: Datum) -> None:
    if datum.in_ratio is None:
        return
    if datum.in_ratio.shape != datum.token_ids.shape:
        raise ValueError(
            f"sequence_ratio_mask has shape {list(datum.in_ratio.shape)}, and model_input {len(datum.token_ids)} "
            "tokens: send a number for each"
        )
    if (datum.weights != 0)[~datum.in_ratio].any():
        raise ValueError(
            "advantages are not 0 outside of sequence_ratio_mask: send 0 there, or 1 in the mask at every sampled token"
        )


def _targets_at_a_position(datum: Datum) -> int:
    return 1 if datum.targets.dim() == 1 else datum.targets.shape[1]
