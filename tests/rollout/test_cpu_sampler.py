"""Drawing tokens by one number a row: the right token for every number, and the right share of each token."""

import pytest
import torch

from rollout.cpu_sampler import BLOCK, draw, uniform


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
