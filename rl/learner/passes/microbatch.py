"""Rows of several policies as the tensors of one forward pass."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rl.learner.model.block_mask import BLOCK
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
    """Rows of similar length, padded to one shape, or all in one line; those of one policy stand together."""

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
    row_ids: Int[Tensor, "1 inputs"] | None = None
    """The row of each input where all stand in one line; None where each has a line of its own."""
    routed_experts: Int[Tensor, "rows inputs blocks active"] | None = None
    """The experts that samplers sent inputs to, and -1 where they sent none; None if they sent no input anywhere."""
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

    return _microbatch(
        members,
        [width] * len(rows),
        device,
        token_ids=stack("token_ids"),  # a row's own last token: from a zero embedding some families' gradient is NaN
        position_ids=stack("position_ids", 0),
        segment_ids=stack("segment_ids", -1),
        routed_experts=_stacked_experts(rows, width, device),
    )


def join(members: Sequence[tuple[int, Row]], device: str) -> Microbatch:
    """Return a microbatch of rows one behind the other in one line, which is filled up to whole blocks of a mask.

    Nothing is padded but the line's end, whatever the rows' lengths. The filling is a row of its own.
    """
    rows = [row for _, row in members]
    lengths = [len(row.token_ids) for row in rows]
    filling = max(-sum(lengths) % BLOCK, 2 * BLOCK - sum(lengths))  # one block alone would be compiled apart

    def line(name: str) -> Tensor:
        return torch.cat([getattr(row, name) for row in rows])

    def filled(values: Tensor, value: int) -> Tensor:
        return nn.functional.pad(values, (0, filling), value=value)[None].to(device)

    token_ids = line("token_ids")
    row_ids = torch.arange(len(rows)).repeat_interleave(torch.tensor(lengths))
    return _microbatch(
        members,
        lengths,
        device,
        token_ids=filled(token_ids, int(token_ids[-1])),  # as above
        position_ids=filled(line("position_ids"), 0),
        segment_ids=filled(line("segment_ids"), 0),
        row_ids=filled(row_ids, len(rows)),
        routed_experts=_joined_experts(rows, filling, device),
    )


def _microbatch(members: Sequence[tuple[int, Row]], places: Sequence[int], device: str, **inputs: Any) -> Microbatch:
    """Return a microbatch of those inputs, in which each row has so many places."""
    rows = [row for _, row in members]

    def join_targets(name: str) -> Tensor:
        return torch.cat([getattr(row, name) for row in rows]).to(device)

    starts = list(itertools.accumulate(places, initial=0))
    ends = torch.tensor([0, *(int(row.sequence_ids[-1]) + 1 for row in rows)]).cumsum(0)
    predictors = torch.cat([row.predictors + start for row, start in zip(rows, starts, strict=False)])
    return Microbatch(
        predictors=predictors.to(device),
        targets=join_targets("targets"),
        sequence_ids=torch.cat([row.sequence_ids + ends[i] for i, row in enumerate(rows)]).to(device),
        rollout_logprobs=join_targets("rollout_logprobs"),
        advantages=join_targets("advantages"),
        in_ratio=torch.cat([_in_ratio(row) for row in rows]).to(device),
        segments=_segments(members, starts),
        shares_predictors=2 * int((predictors.diff() == 0).sum()) >= len(predictors),
        **inputs,
    )


def _stacked_experts(rows: Sequence[Row], width: int, device: str) -> Int[Tensor, "rows width blocks active"] | None:
    parts = _experts(rows)
    if not parts:
        return None
    return torch.stack([_with_none_behind(part, width - len(part)) for part in parts]).to(device)


def _joined_experts(rows: Sequence[Row], filling: int, device: str) -> Int[Tensor, "1 inputs blocks active"] | None:
    parts = _experts(rows)
    return _with_none_behind(torch.cat(parts), filling)[None].to(device) if parts else None


def _experts(rows: Sequence[Row]) -> list[Int[Tensor, "inputs blocks active"]]:
    """Return the experts of each row's inputs, -1 in rows that came without; nothing if all did."""
    sizes = {row.routed_experts.shape[1:] for row in rows if row.routed_experts is not None}
    if not sizes:
        return []
    (size,) = sizes  # one model's
    return [
        torch.full((len(row.token_ids), *size), -1, dtype=torch.int16)
        if row.routed_experts is None
        else row.routed_experts.to(torch.int16)
        for row in rows
    ]


def _with_none_behind(experts: Int[Tensor, "inputs blocks active"], count: int) -> Int[Tensor, "more blocks active"]:
    return nn.functional.pad(experts, (0, 0, 0, 0, 0, count), value=-1)


def _in_ratio(row: Row) -> Bool[Tensor, " targets"]:
    return torch.ones_like(row.targets, dtype=torch.bool) if row.in_ratio is None else row.in_ratio


def _segments(members: Sequence[tuple[int, Row]], starts: Sequence[int]) -> tuple[Segment, ...]:
    """Return each policy's part; `starts` are the places at which rows begin, and the end of the last one."""
    segments: list[Segment] = []
    row = target = 0
    for policy_index, rows_of_policy in itertools.groupby(members, key=lambda pair: pair[0]):
        lengths = [len(r.targets) for _, r in rows_of_policy]
        rows, targets = row + len(lengths), target + sum(lengths)
        segments.append(Segment(policy_index, slice(starts[row], starts[rows]), slice(target, targets)))
        row, target = rows, targets
    return tuple(segments)
