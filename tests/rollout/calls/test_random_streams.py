"""Seeds of 64 bits: every bit counts, and neighbours have nothing in common."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rollout.calls.seeds import ALL, END, Stream, mix, vllm_seed
from rollout.config import MOST_OF_A_PROBLEM
from rollout.vllm.patches.cpu_sampler import seeded

seeds = st.integers(0, ALL - 1)


@given(seed=seeds)
def test_a_seed_for_vllm_leaves_room_for_the_index_that_it_adds(seed: int) -> None:
    assert 0 <= vllm_seed(seed) <= vllm_seed(seed) + MOST_OF_A_PROBLEM - 1 < 2**63
    assert END + MOST_OF_A_PROBLEM == 2**63


@given(seed=seeds, bit=st.integers(0, 63))
def test_seeds_that_differ_in_one_bit_are_far_apart_in_vllm(seed: int, bit: int) -> None:
    assert abs(vllm_seed(seed) - vllm_seed(seed ^ (1 << bit))) > MOST_OF_A_PROBLEM


def test_neighbouring_seeds_share_no_stream() -> None:
    """Each call has 4096 consecutive streams."""
    starts = sorted(vllm_seed(seed) for seed in range(100_000))
    assert min(b - a for a, b in itertools.pairwise(starts)) >= MOST_OF_A_PROBLEM


def test_mixing_gives_every_number_another_one() -> None:
    numbers = np.arange(1_000_000, dtype=np.uint64)
    assert len(np.unique(mix(numbers))) == len(numbers)


def test_half_of_the_bits_change_with_each_bit() -> None:
    numbers = np.random.default_rng(0).integers(0, 2**63, 2000, dtype=np.uint64)
    for bit in range(64):
        changed = mix(numbers) ^ mix(numbers ^ np.uint64(1 << bit))
        assert np.unpackbits(changed.view(np.uint8)).mean() == pytest.approx(0.5, abs=0.01)


def numbers(seed: int, count: int = 6) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    return [seeded([generator]).item() for _ in range(count)]


@given(seed=seeds, bit=st.integers(0, 63))
def test_every_bit_of_a_seed_changes_what_is_drawn_on_a_cpu(seed: int, bit: int) -> None:
    assert numbers(seed) == numbers(seed)
    assert numbers(seed) != numbers(seed ^ (1 << bit))


@given(seed=seeds, bit=st.integers(0, 63))
def test_every_bit_of_a_seed_changes_a_stream(seed: int, bit: int) -> None:
    numbers = Stream(seed).draw(6)
    assert torch.equal(Stream(seed).draw(6), numbers)
    assert not torch.equal(Stream(seed ^ (1 << bit)).draw(6), numbers)
    assert ((numbers >= 0) & (numbers < 1)).all()


@given(seed=st.integers(0, 2**32 - 1))
def test_a_stream_of_a_short_seed_is_torchs_own(seed: int) -> None:
    """Curves of runs on the torch engine stay what they were."""
    generator = torch.Generator().manual_seed(seed + 2**61)
    expected = torch.rand(4, 1, generator=generator, dtype=torch.float64)[:, 0]
    assert torch.equal(Stream(seed).draw(4), expected)


def test_numbers_are_spread_evenly_and_independently_below_one() -> None:
    """Streams whose seeds differ in their high bits alone, which torch's own generators would make the same."""
    drawn = torch.tensor([numbers(i << 32, 2) for i in range(4000)], dtype=torch.float64)
    assert 0 <= drawn.min() <= drawn.max() < 1
    counts = torch.histc(drawn, 20, 0, 1)
    assert ((counts - 400) ** 2 / 400).sum() < 50, "chi-squared, of 19 degrees of freedom"
    assert abs(torch.corrcoef(drawn.T)[0, 1]) < 0.06
    assert abs(torch.corrcoef(torch.stack([drawn[:-1, 0], drawn[1:, 0]]))[0, 1]) < 0.06
