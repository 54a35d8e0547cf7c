"""Drawing tokens by one number a row: the right token for every number, and the right share of each token."""

import math
from typing import NamedTuple

import pytest
import torch

from rollout.vllm.patches.cpu_sampler import BLOCK, draw, joined, truncate, uniform


@pytest.mark.parametrize("size", [5, BLOCK, 3 * BLOCK, 1000])
def test_a_number_names_the_token_that_the_plain_running_sum_names(size: int) -> None:
    probabilities = torch.randn(200, size).mul(3).softmax(-1)
    numbers = torch.rand(200)
    plain = (probabilities.double().cumsum(-1) < (1 - numbers.double())[:, None]).sum(-1)
    drawn = draw(probabilities, numbers)
    assert (drawn != plain).sum() <= 1, "only a number on the border of two tokens may fall to the other side"


@pytest.mark.parametrize("number", [0.0, 1e-30, 0.5, 1 - 2**-24])
@pytest.mark.parametrize("kept", [[0], [BLOCK - 1], [BLOCK], [7, 3 * BLOCK + 4], [4 * BLOCK - 1]])
def test_a_token_of_probability_zero_is_never_drawn(kept: list[int], number: float) -> None:
    probabilities = torch.zeros(1, 4 * BLOCK)
    probabilities[0, kept] = torch.rand(len(kept)) + 0.1
    assert draw(probabilities / probabilities.sum(), torch.tensor([number])).item() in kept


def test_tokens_come_as_often_as_their_probabilities_say() -> None:
    """Pearson's chi-squared; its standard deviation is sqrt(2 * 599)."""
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.randn(600, generator=generator).softmax(-1)
    count = 400_000
    drawn = torch.cat(
        [draw(probabilities.expand(1000, -1), torch.rand(1000, generator=generator)) for _ in range(count // 1000)]
    )
    seen, expected = torch.bincount(drawn, minlength=600), probabilities * count
    assert ((seen - expected) ** 2 / expected).sum().item() == pytest.approx(599, abs=5 * (2 * 599) ** 0.5)


def test_a_requests_own_generator_alone_decides_its_number() -> None:
    def numbers(rows: int, row: int) -> float:
        return uniform(rows, {row: torch.Generator().manual_seed(5)})[row].item()

    assert numbers(4, 0) == numbers(9, 7)
    assert len({*uniform(100, {}).tolist()}) > 90


def test_only_rows_with_a_top_k_or_a_top_p_lose_tokens() -> None:
    pytest.importorskip("vllm")
    if torch.cuda.is_available():
        pytest.skip("this is for vLLM's CPU build")
    logits = torch.randn(4, 300)
    logits[0, 5] = -200.0  # its probability rounds to 0
    k, p = torch.tensor([300, 7, 300, 300], dtype=torch.int32), torch.tensor([1.0, 1.0, 0.5, 1.0])
    kept = truncate(logits.clone(), k, p)
    assert torch.equal(kept[[0, 3]], logits[[0, 3]])
    assert (kept[1] > -math.inf).sum() == 7
    above = logits[2].softmax(-1)[kept[2] > -math.inf].sum()
    assert 0.5 <= above < 0.5 + logits[2].softmax(-1).max()
    assert torch.equal(truncate(logits.clone(), None, None), logits)


class Tensors(NamedTuple):
    """vLLM's `LogprobsTensors`."""

    logprob_token_ids: torch.Tensor
    logprobs: torch.Tensor
    selected_token_ranks: torch.Tensor


def tensors(rows: int, width: int, first: int) -> Tensors:
    numbers = first + torch.arange(rows * width).view(rows, width)
    return Tensors(numbers.int(), -numbers.float(), torch.arange(rows))


@pytest.mark.parametrize(("narrow", "wide"), [(2, 5), (5, 2), (3, 3)])
def test_each_row_of_a_mixed_step_keeps_what_its_request_asked_for(narrow: int, wide: int) -> None:
    by_id, likeliest = tensors(4, narrow, 100), tensors(4, wide, 500)
    both = joined(by_id, likeliest, [1, 3])
    for row in range(4):
        ours = by_id if row in (1, 3) else likeliest
        width = ours.logprobs.shape[1]
        assert torch.equal(both.logprob_token_ids[row, :width], ours.logprob_token_ids[row])
        assert torch.equal(both.logprobs[row, :width], ours.logprobs[row])
        assert (both.logprobs[row, width:] == -math.inf).all()
