"""The keys that each query of joined rows may see, as FlexAttention takes it: by blocks, in memory linear in inputs.

Rows stand one behind the other in a single line, each a prompt and then its completions. These are *runs*, numbered
along the line. A query sees what is not behind it, in its own run or in its row's prompt. No [inputs, inputs] mask is
made: which blocks of keys a block of queries needs follows from the first and the last run of each, and only blocks of
which a part is seen are looked at key by key (Dong et al. 2024, "Flex Attention", section 3).
"""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128
"""Inputs of a block of queries or keys; a line has a multiple of it."""


@dataclass(frozen=True, slots=True)
class Runs:
    """The run of each input of a line, that of its row's prompt, and its position in its own sequence."""

    own: Int[Tensor, " inputs"]
    prompt: Int[Tensor, " inputs"]
    position: Int[Tensor, " inputs"]

    @classmethod
    def of(
        cls, row_ids: Int[Tensor, " inputs"], segment_ids: Int[Tensor, " inputs"], position_ids: Int[Tensor, " inputs"]
    ) -> Self:
        """Number the runs. A row begins with its prompt, which has segment 0."""
        begins_row = _changes(row_ids)
        own = (begins_row | _changes(segment_ids)).cumsum(0)
        prompt = torch.where(begins_row, own, 0).cummax(0).values
        return cls(own.int(), prompt.int(), position_ids.int())


def block_mask(runs: Runs, window: int | None = None) -> BlockMask:
    """Return the mask of a line, whose inputs are a multiple of `BLOCK`; with a `window`, a query sees no key that is
    as many positions before it."""
    own, prompt, position = runs.own, runs.prompt, runs.position

    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        related = (own[key] == own[query]) | (own[key] == prompt[query])
        near = True if window is None else position[query] - position[key] < window
        return (query >= key) & related & near

    needed, whole = _blocks(runs, window)
    return BlockMask.from_kv_blocks(
        *_ordered(needed & ~whole),
        *_ordered(whole),
        BLOCK_SIZE=BLOCK,
        mask_mod=sees,
        seq_lengths=(len(own), len(own)),
    )


def _blocks(
    runs: Runs, window: int | None
) -> tuple[Bool[Tensor, "query_blocks key_blocks"], Bool[Tensor, "query_blocks key_blocks"]]:
    """Return which blocks of keys have a key that some query may see, and which of them every query sees whole.

    The first may have a few that nobody sees after all; their keys are looked at one by one, and hidden.
    """
    own, prompt, position = (tensor.view(-1, BLOCK) for tensor in (runs.own, runs.prompt, runs.position))
    first, last = own[:, 0], own[:, -1]  # runs ascend along a line
    first_prompt, last_prompt = prompt[:, 0], prompt[:, -1]
    block = torch.arange(len(own), device=own.device)
    in_own = (first <= last[:, None]) & (last >= first[:, None])
    in_prompt = (first <= last_prompt[:, None]) & (last >= first_prompt[:, None])
    needed = (block <= block[:, None]) & (in_own | in_prompt)
    all_own = (first == last)[:, None] & (first == first[:, None])
    all_prompt = (first_prompt == last_prompt)[:, None] & (first == first_prompt[:, None])
    whole = (block < block[:, None]) & (first == last) & (all_own | all_prompt)
    if window is not None:
        lowest, highest = position.amin(1), position.amax(1)
        needed &= lowest[:, None] - highest < window
        whole &= highest[:, None] - lowest < window
    return needed, whole


def _ordered(blocks: Bool[Tensor, "query_blocks key_blocks"]) -> tuple[Tensor, Tensor]:
    """Return, for each block of queries, how many blocks of keys it has, and their indices before all others'."""
    indices = blocks.int().argsort(dim=1, descending=True, stable=True)
    return blocks.sum(1).int()[None, None], indices.int()[None, None]


def _changes(values: Int[Tensor, " inputs"]) -> Bool[Tensor, " inputs"]:
    """Return True where a value is not the one before it; the first one counts."""
    before = torch.cat([values[:1] - 1, values[:-1]])
    return values != before
