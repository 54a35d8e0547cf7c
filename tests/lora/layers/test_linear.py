"""The rounding of an adapter's B, which is that of an engine also where a block is compiled."""

import shutil

import pytest
import torch

from lora.layers.linear import rounded, scaled


def test_rounding_as_integers_is_a_cast_and_another_one_back() -> None:
    generator = torch.Generator().manual_seed(0)
    scales = 10.0 ** torch.randint(-38, 38, (10_000,), generator=generator)
    edges = torch.tensor([0.0, -0.0, 1.0, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 1e-45, 3.3e38])
    values = torch.cat([torch.randn(10_000, generator=generator) * scales, edges])
    values = values[values.bfloat16().isfinite()]
    assert torch.equal(rounded(values, torch.bfloat16).view(torch.int32), values.bfloat16().float().view(torch.int32))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with it on a CPU")
def test_a_compiled_block_rounds_b_before_it_scales_it_too() -> None:
    """torch's compiler leaves out a cast to fewer bits that another one undoes."""
    B = torch.randn(512, 3, generator=torch.Generator().manual_seed(0))

    def with_scale(B: torch.Tensor) -> torch.Tensor:
        return scaled(B, 32 / 3, torch.bfloat16, exact=False)

    served = (32 / 3 * B.bfloat16().float()).bfloat16()
    assert torch.equal(with_scale(B), served)
    assert torch.equal(torch.compile(with_scale)(B), served)
    assert not torch.equal((32 / 3 * B).bfloat16(), served)
