"""Rows in one line compute what they compute each in a line of its own, and no query sees a key that it must not.

FlexAttention's backward pass on a CPU is there in torch, and refused at its door: these tests open it.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fakes import made_groups
from helpers.reference import FAMILIES, save_tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM

from lora.config import LoraConfig
from lora.trainable.inject import inject
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import attention_mask, build_batch
from rl.learner.model.block_mask import BLOCK, Runs, block_mask
from rl.learner.model.packed_attention import packed_attention, use_packed_attention
from rl.learner.passes.forward import microbatches, target_logprobs
from rl.types import Row

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")

LENGTHS = st.lists(st.tuples(st.integers(1, 200), st.lists(st.integers(1, 150), max_size=4)), min_size=1, max_size=4)
"""Of rows: a prompt's, and those of its completions."""


@pytest.fixture(autouse=True)
def backward_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch has it, for graphs that are compiled, and refuses it for those that are not. Nothing is compiled here."""
    monkeypatch.setattr("torch.nn.attention.flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *_: None)


def line(lengths: list[tuple[int, list[int]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Row, segment and position of each input, filled up to whole blocks."""
    rows, segments, positions = [], [], []
    for row, (prompt, completions) in enumerate(lengths):
        for segment, length in enumerate([prompt, *completions]):
            start = prompt if segment else 0
            rows += [row] * length
            segments += [segment] * length
            positions += range(start, start + length)
    filling = -len(rows) % BLOCK
    ids = rows + [len(lengths)] * filling, segments + [0] * filling, positions + [0] * filling
    return torch.tensor(ids[0]), torch.tensor(ids[1]), torch.tensor(ids[2])


def dense(rows: torch.Tensor, segments: torch.Tensor, positions: torch.Tensor, window: int | None) -> torch.Tensor:
    mask = attention_mask(segments) & (rows[:, None] == rows)
    return mask if window is None else mask & (positions[:, None] - positions < window)


@given(LENGTHS, st.sampled_from([None, 1, 40, 128, 300]))
@settings(max_examples=40, deadline=None)
def test_a_block_mask_shows_what_the_whole_mask_shows(lengths: list[tuple[int, list[int]]], window: int | None) -> None:
    rows, segments, positions = line(lengths)
    runs = Runs.of(rows, segments, positions)
    mask = block_mask(runs, window)
    expected = dense(rows, segments, positions, window)
    query, key = torch.meshgrid(torch.arange(len(rows)), torch.arange(len(rows)), indexing="ij")
    in_blocks = expand(mask.kv_num_blocks, mask.kv_indices) & mask.mask_mod(query, query, query, key)
    whole = expand(mask.full_kv_num_blocks, mask.full_kv_indices)
    assert torch.equal(in_blocks | whole, expected)


def expand(counts: Any, indices: Any) -> torch.Tensor:
    """Which keys of which queries are in these blocks."""
    blocks = torch.zeros(indices.shape[-2:], dtype=torch.bool)
    for query, count in enumerate(counts[0, 0].tolist()):
        blocks[query, indices[0, 0, query, :count].long()] = True
    return blocks.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)


def test_blocks_of_other_rows_and_of_other_completions_are_left_out() -> None:
    lengths = [(128, [256] * 8)] * 4
    mask = block_mask(Runs.of(*line(lengths)))
    # A block of a completion needs the prompt's, and one or two of its own.
    assert int(mask.kv_num_blocks.max() + mask.full_kv_num_blocks.max()) <= 3  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("sunk", [False, True], ids=["no sinks", "sinks"])
@pytest.mark.parametrize("softcap", [None, 5.0], ids=["plain", "capped"])
@pytest.mark.parametrize("window", [None, 50], ids=["full", "sliding"])
def test_attention_and_its_gradients_are_those_of_the_whole_mask(
    window: int | None, softcap: float | None, sunk: bool
) -> None:
    """In one line, by blocks; and in a row of its own, as on a CPU."""
    ids = line([(90, [70, 130]), (30, [200]), (1, [])])
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(1, heads, len(ids[0]), 16, generator=generator).requires_grad_() for heads in (4, 2, 2)]
    query, key, value = inputs
    sinks = torch.randn(4, generator=generator).requires_grad_()
    inputs += [sinks] * sunk
    scores = query @ key.repeat_interleave(2, 1).transpose(2, 3) * 0.3
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~dense(*ids, window), -torch.inf)
    if sunk:  # a key without a value
        scores = torch.cat([scores, sinks[None, :, None, None].expand(*scores.shape[:3], 1)], -1)
    probabilities = scores.softmax(-1)[..., : len(ids[0])]
    expected = (probabilities @ value.repeat_interleave(2, 1)).transpose(1, 2)
    above = torch.randn(expected.shape, generator=generator)
    gradients = torch.autograd.grad(expected, inputs, above, retain_graph=True)
    for mask in (block_mask(Runs.of(*ids), window), dense(*ids, window)[None, None]):
        got, _ = packed_attention(
            nn.Identity(), query, key, value, mask, 0.3, softcap=softcap, s_aux=sinks if sunk else None
        )
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
        for mine, theirs in zip(torch.autograd.grad(got, inputs, above), gradients, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def rows_of(seed: int, groups: int, tokens_per_row: int) -> list[Row]:
    made = made_groups(seed, groups=groups, size=6, prompt=(2, 40), length=(3, 30))
    return build_batch(made, [advantages(group.rewards) for group in made], tokens_per_row).rows


@pytest.mark.parametrize(
    ("family", "tokens"),
    [*((family, 150) for family in FAMILIES), *(("qwen2-sliding", tokens) for tokens in (1, 10**6))],
)
def test_a_model_reads_and_learns_from_joined_rows_as_from_padded_ones(
    family: str, tokens: int, tmp_path: Path
) -> None:
    save_tiny(family, tmp_path)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager").eval()
    layers = inject(model, LoraConfig(rank=2))
    with torch.no_grad():
        for layer in layers.values():
            layer.lora_B.normal_(std=0.02)
    use_packed_attention(model)
    rows = rows_of(1, 4, 64)
    padded = learned(model, layers, rows, tokens, joined=False)
    joined = learned(model, layers, rows, tokens, joined=True)
    for mine, theirs in zip(joined, padded, strict=True):
        assert (mine - theirs).norm() <= 1e-5 * theirs.norm()


def learned(model: Any, layers: Any, rows: list[Row], tokens: int, *, joined: bool) -> list[torch.Tensor]:
    """Logprobs of the targets, sorted rows first, and the gradients of a weighted sum of them."""
    logprobs = torch.cat(
        [target_logprobs(model, part, 0.7)[0] for part in microbatches(rows, tokens, "cpu", joined=joined)]
    )
    weights = torch.randn(len(logprobs), generator=torch.Generator().manual_seed(0))
    model.zero_grad()
    (logprobs * weights).sum().backward()
    return [logprobs.detach(), *(tensor.grad.clone() for tensor in layers.tensors().values())]


def test_joined_microbatches_hold_every_row_once_and_fill_their_tokens() -> None:
    rows = rows_of(3, 12, 64)
    for tokens in (1, 50, 300, 10**6):
        made = microbatches(rows, tokens, "cpu", [0] * 8 + [1] * (len(rows) - 8), joined=True)
        assert sorted(t for b in made for t in b.targets.tolist()) == sorted(
            t for r in rows for t in r.targets.tolist()
        )
        for batch in made:
            inputs = sum(segment.inputs.stop - segment.inputs.start for segment in batch.segments)
            assert batch.row_ids is not None
            rows_here = len(batch.row_ids[0, :inputs].unique())
            assert inputs <= tokens or rows_here == 1
            assert batch.token_ids.numel() == max(2, -(-inputs // BLOCK)) * BLOCK
