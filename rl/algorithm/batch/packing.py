"""Graded groups become packed rows. The only place that shifts by one.

A group shares its prompt, so a row holds it once, followed by as many completions as fit. The attention mask lets a
completion see the prompt and itself, and positions continue from the prompt's end: what the model computes is what it
would compute on each completion alone. Completions whose prompt a mixture sent to other experts share no row, because a
prompt is read once in it. Tokens that are not the policy's own (`Completion.loss_mask`) are inputs like
all others, and no targets: so no loss, ratio, entropy, divergence or count knows of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rl.algorithm.batch.counted import is_counted
from rl.types import Group, Row, TrainBatch
from rollout.types import Completion

Advantage = float | Sequence[float]
"""A completion's, or those of its tokens."""
Advised = tuple[Completion, Advantage]
"""A completion and its advantage."""

NOT_ROUTED = (
    "learner.router_replay needs the experts that sampled tokens went through, and the engine returned none: set it to "
    "false"
)


def build_batch(
    groups: Sequence[Group],
    advantages_P_G: Sequence[Sequence[Advantage]],
    tokens_per_row: int,
    *,
    most_tokens: int = 0,
    truncated: Literal["learn", "mask"] = "learn",
    keep_all: bool = False,
    routed: bool = False,
) -> TrainBatch:
    """Build rows for every completion that carries a signal, and count the completions and tokens that could have.

    `most_tokens` is `sampling.max_tokens`. Completions that are masked have advantage 0 and are not counted. With
    `keep_all` there are rows for all that are counted, for losses that need no signal.

    Raises:
        ValueError: completions should be `routed`, and an engine returned one without its experts.
    """
    rows: list[Row] = []
    counted: list[int] = []
    for group, advantages in zip(groups, advantages_P_G, strict=True):
        graded = zip(group.completions, group.rewards, strict=True)
        counts = [is_counted(completion, reward, truncated) for completion, reward in graded]
        counted += [c.num_sampled for c, is_of_step in zip(group.completions, counts, strict=True) if is_of_step]
        candidates = zip(group.completions, advantages, counts, strict=True)
        advised = [(c, a) for c, a, is_of_step in candidates if np.any(a) or (keep_all and is_of_step)]
        if routed and any(completion.routed_experts is None for completion, _ in advised):
            raise ValueError(NOT_ROUTED)
        rows += pack_rows(group.prompt, advised, tokens_per_row)
    return TrainBatch(rows, num_tokens=sum(counted), num_sequences=len(counted), most_tokens=most_tokens)


def split_rows(rows: Sequence[Row], count: int) -> list[list[Row]]:
    """Divide rows among that many learners, about equally by their inputs. The same rows always divide the same way."""
    return [[rows[i] for i in indices] for indices in split_indices(rows, count)]


def split_indices(rows: Sequence[Row], count: int) -> list[list[int]]:
    """Return which rows each learner gets, by their indices, as `split_rows` divides them."""
    shards: list[list[int]] = [[] for _ in range(count)]
    load = [0] * count
    for index in sorted(range(len(rows)), key=lambda i: -len(rows[i].token_ids)):
        least = load.index(min(load))
        shards[least].append(index)
        load[least] += len(rows[index].token_ids)
    return shards


def pack_rows(prompt: list[int], advised: Sequence[Advised], tokens_per_row: int) -> list[Row]:
    """Pack completions of one prompt, as many to a row as fit."""
    alike = _alike(len(prompt), advised)
    return [_row(prompt, part) for each in alike for part in _fitting_parts(len(prompt), each, tokens_per_row)]


def unpack_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the same completions, each in a row of its own: the inverse of packing.

    It is for models that carry more along a row than attention does: a mask cannot keep apart what a recurrent layer
    has in its state.
    """
    return [alone for row in rows for alone in _unpacked(row)]


def attention_mask(segment_ids: Int[Tensor, "*rows inputs"]) -> Bool[Tensor, "*rows inputs inputs"]:
    """Return what each input may see: a query sees what is not behind it, in the prompt or in its own completion.

    Padding has segment -1: it sees itself, so that no row of the softmax is empty, and nothing sees it.
    """
    query, key = segment_ids.unsqueeze(-1), segment_ids.unsqueeze(-2)
    causal = torch.ones(
        segment_ids.shape[-1], segment_ids.shape[-1], dtype=torch.bool, device=segment_ids.device
    ).tril()
    itself = torch.eye(segment_ids.shape[-1], dtype=torch.bool, device=segment_ids.device)
    return (causal & ((key == 0) | (key == query)) & (query >= 0)) | itself


def _alike(prompt_length: int, advised: Sequence[Advised]) -> list[list[Advised]]:
    """Divide a group into completions whose prompt went through the same experts, most often all of them."""
    parts: dict[bytes, list[Advised]] = {}
    for completion, advantage in advised:
        routed = completion.routed_experts
        key = b"" if routed is None else routed.array[:prompt_length].astype(np.uint16).tobytes()
        parts.setdefault(key, []).append((completion, advantage))
    return list(parts.values())


def _fitting_parts(prompt_length: int, advised: Sequence[Advised], tokens_per_row: int) -> Iterator[list[Advised]]:
    """Cut a group so that each row stays within its tokens; a completion that alone is longer gets a row of its own."""
    part: list[Advised] = []
    length = prompt_length
    for completion, advantage in advised:
        added = len(completion.token_ids) - 1
        if part and length + added > tokens_per_row:
            yield part
            part, length = [], prompt_length
        part.append((completion, advantage))
        length += added
    if part:
        yield part


def _unpacked(row: Row) -> Iterator[Row]:
    count = int(row.sequence_ids[-1]) + 1
    if count == 1:
        yield row
        return
    for index in range(count):
        inputs = torch.cat([torch.where(row.segment_ids == segment)[0] for segment in (0, index + 1)])
        place = torch.empty_like(row.segment_ids)
        place[inputs] = torch.arange(len(inputs))  # where each input comes to stand
        targets = row.sequence_ids == index
        yield Row(
            token_ids=row.token_ids[inputs],
            position_ids=row.position_ids[inputs],
            segment_ids=row.segment_ids[inputs].clamp(max=1),
            predictors=place[row.predictors[targets]],
            targets=row.targets[targets],
            sequence_ids=torch.zeros_like(row.targets[targets]),
            rollout_logprobs=row.rollout_logprobs[targets],
            advantages=row.advantages[targets],
            in_ratio=None if row.in_ratio is None else row.in_ratio[targets],
            routed_experts=None if row.routed_experts is None else row.routed_experts[inputs],
        )


def _row(prompt: list[int], part: Sequence[Advised]) -> Row:
    # A completion's last token predicts nothing, so each has one input less than it has targets; its first target is
    # predicted by the prompt's last input, which all of them share.
    ids = [np.asarray(completion.token_ids, dtype=np.int64) for completion, _ in part]
    lengths = np.array([len(completion) for completion in ids])
    before = len(prompt)
    starts = before + np.concatenate([[0], np.cumsum(lengths - 1)[:-1]])  # where each completion's inputs begin
    logprobs = [np.asarray(completion.logprobs, dtype=np.float32) for completion, _ in part]
    row = Row(
        token_ids=_joined([np.array(prompt), *(completion[:-1] for completion in ids)]),
        position_ids=_joined([np.arange(before), *(np.arange(before, before + n - 1) for n in lengths)]),
        segment_ids=_joined([np.zeros(before, dtype=np.int64), np.repeat(np.arange(1, len(ids) + 1), lengths - 1)]),
        predictors=_joined(
            [np.r_[before - 1, start : start + n - 1] for start, n in zip(starts, lengths, strict=True)]
        ),
        targets=_joined(ids),
        sequence_ids=_joined([np.repeat(np.arange(len(ids)), lengths)]),
        rollout_logprobs=_joined(logprobs),
        advantages=_joined(
            [np.broadcast_to(np.asarray(a, dtype=np.float32), n) for (_, a), n in zip(part, lengths, strict=True)]
        ),
        routed_experts=_routed(before, [completion for completion, _ in part]),
    )
    return row if all(completion.loss_mask is None for completion, _ in part) else _without_masked(row, part)


def _routed(prompt_length: int, completions: Sequence[Completion]) -> Int[Tensor, "inputs blocks active"] | None:
    """Return the experts of a row's inputs; the prompt's are the same of all. None if they came without them."""
    arrays: list[np.ndarray] = []
    for completion in completions:
        if completion.routed_experts is None:
            return None
        experts = completion.routed_experts.array
        inputs = prompt_length + len(completion.token_ids) - 1
        if len(experts) != inputs:
            raise ValueError(f"an engine returned the experts of {len(experts)} tokens, and {inputs} were read")
        arrays.append(experts.astype(np.int16) if experts.dtype == np.uint16 else experts)
    return _joined([arrays[0][:prompt_length], *(experts[prompt_length:] for experts in arrays)])


def _without_masked(row: Row, part: Sequence[Advised]) -> Row:
    """Leave tokens that the policy did not write out of a row's targets. They stay inputs, which later tokens see."""
    sampled = _joined([_sampled(completion) for completion, _ in part])
    names = ("predictors", "targets", "sequence_ids", "rollout_logprobs", "advantages")
    return replace(row, **{name: getattr(row, name)[sampled] for name in names})


def _sampled(completion: Completion) -> np.ndarray:
    if completion.loss_mask is None:
        return np.ones(len(completion.token_ids), dtype=bool)
    return np.array(completion.loss_mask, dtype=bool)


def _joined(parts: Sequence[np.ndarray]) -> Tensor:
    """Return one tensor. Python's lists would take a tenth of a microsecond for every number in them."""
    return torch.from_numpy(np.concatenate(parts))
