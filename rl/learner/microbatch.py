"""Rows of several policies as the tensors of one forward pass."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rl.types import Row


@dataclass(frozen=True, slots=True)
class Segment:
    """The inputs and targets of one policy in a microbatch."""

    policy_index: int
    inputs: slice
    """Into the flattened rows."""
    targets: slice


@dataclass(frozen=True, slots=True)
class Microbatch:
    """Rows of similar length, padded to one shape; those of one policy stand together."""

    token_ids: Int[Tensor, "rows inputs"]
    position_ids: Int[Tensor, "rows inputs"]
    segment_ids: Int[Tensor, "rows inputs"]
    predictors: Int[Tensor, " targets"]
    """Into the flattened rows."""
    targets: Int[Tensor, " targets"]
    sequence_ids: Int[Tensor, " targets"]
    rollout_logprobs: Float[Tensor, " targets"]
    advantages: Float[Tensor, " targets"]
    in_ratio: Bool[Tensor, " targets"]
    segments: tuple[Segment, ...]
    shares_predictors: bool = False
    """True if most targets follow another one of the same predictor, whose distribution is theirs, too."""
    is_padding: bool = False
    """True if it is computed for others' sake, and nothing of it counts."""


def pad(members: Sequence[tuple[int, Row]], device: str) -> Microbatch:
    """Return a microbatch of rows, each with its policy's index; those of one policy must stand together."""
    rows = [row for _, row in members]
    width = max(len(row.token_ids) for row in rows)

    def stack(name: str, value: int | None = None) -> Tensor:
        parts = [getattr(row, name) for row in rows]
        ends = [int(part[-1]) if value is None else value for part in parts]
        padded = [
            nn.functional.pad(part, (0, width - len(part)), value=end) for part, end in zip(parts, ends, strict=True)
        ]
        return torch.stack(padded).to(device)

    def join(name: str) -> Tensor:
        return torch.cat([getattr(row, name) for row in rows]).to(device)

    ends = torch.tensor([0, *(int(row.sequence_ids[-1]) + 1 for row in rows)]).cumsum(0)
    predictors = torch.cat([row.predictors + i * width for i, row in enumerate(rows)])
    return Microbatch(
        token_ids=stack("token_ids"),  # a row's own last token: from a zero embedding some families' gradient is NaN
        position_ids=stack("position_ids", 0),
        segment_ids=stack("segment_ids", -1),
        predictors=predictors.to(device),
        targets=join("targets"),
        sequence_ids=torch.cat([row.sequence_ids + ends[i] for i, row in enumerate(rows)]).to(device),
        rollout_logprobs=join("rollout_logprobs"),
        advantages=join("advantages"),
        in_ratio=torch.cat([_in_ratio(row) for row in rows]).to(device),
        segments=_segments(members, width),
        shares_predictors=2 * int((predictors.diff() == 0).sum()) >= len(predictors),
    )


def _in_ratio(row: Row) -> Bool[Tensor, " targets"]:
    return torch.ones_like(row.targets, dtype=torch.bool) if row.in_ratio is None else row.in_ratio


def _segments(members: Sequence[tuple[int, Row]], width: int) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    row = target = 0
    for policy_index, rows_of_policy in itertools.groupby(members, key=lambda pair: pair[0]):
        lengths = [len(r.targets) for _, r in rows_of_policy]
        rows, targets = row + len(lengths), target + sum(lengths)
        segments.append(Segment(policy_index, slice(row * width, rows * width), slice(target, targets)))
        row, target = rows, targets
    return tuple(segments)
