"""The LoRA products of a vLLM worker on a CPU against the plain formula, row by row."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

if find_spec("vllm") is None:
    pytest.skip("needs vLLM", allow_module_level=True)
if torch.cuda.is_available():
    pytest.skip("these operators are for vLLM's CPU build", allow_module_level=True)

if TYPE_CHECKING:  # vLLM takes ten seconds to load, which whoever collects these tests need not wait for
    from rollout.vllm.patches.cpu_lora import DenseLoraCPU

SLOTS, VOCABULARY = 4, 50
IDS: list[int | None] = [11, 12, 13, 14]
BATCHES = {
    "one adapter": [12] * 7,
    "the base model alone": [0] * 5,
    "two adapters": [11, 11, 14, 11, 14],
    "all of them, and the base": [14, 0, 11, 12, 0, 13, 13, 12, 0],
    "one adapter, and the base": [13, 0, 13],
}


@dataclass
class Stacked:
    """A layer's matrices as vLLM holds them, and a copy that nothing touches."""

    a: tuple[Tensor, ...]
    b: tuple[Tensor, ...]
    outs: tuple[int, ...]

    def write(self, slot: int, seed: int) -> None:
        """As `set_lora` does."""
        generator = torch.Generator().manual_seed(seed)
        for matrix in (*self.a, *self.b):
            matrix[slot] = 0
            matrix[slot, 0].copy_(torch.randn(matrix[slot, 0].shape, generator=generator))


def stacked(rank: int, d_in: int, outs: tuple[int, ...], dtype: torch.dtype) -> Stacked:
    a = tuple(torch.zeros(SLOTS, 1, rank, d_in, dtype=dtype) for _ in outs)
    b = tuple(torch.zeros(SLOTS, 1, out, rank, dtype=dtype) for out in outs)
    layer = Stacked(a, b, outs)
    for slot in range(SLOTS):
        layer.write(slot, seed=slot)
    return layer


def wrapper(rows: list[int]) -> "DenseLoraCPU":
    from rollout.vllm.patches.cpu_lora import DenseLoraCPU

    made = DenseLoraCPU(64, 16, "cpu", max_loras=SLOTS)
    set_rows(made, rows)
    return made


def set_rows(wrapper: "DenseLoraCPU", rows: list[int]) -> None:
    from vllm.lora.layers import LoRAMapping

    mapping = LoRAMapping(tuple(rows), tuple(rows), is_prefill=True)
    wrapper.update_metadata(mapping, IDS, SLOTS, VOCABULARY)


def plain(layer: Stacked, x: Tensor, y: Tensor, rows: list[int]) -> Tensor:
    """y + x A^T B^T, each row and slice for itself; x A^T rounded to the activations' precision."""
    expected = y.clone().float()
    for row, adapter in enumerate(rows):
        if adapter:
            slot, start = IDS.index(adapter), 0
            for a, b, out in zip(layer.a, layer.b, layer.outs, strict=True):
                shrunk = (x[row].float() @ a[slot, 0].float().T).to(x.dtype).float()
                expected[row, start : start + out] += shrunk @ b[slot, 0].float().T
                start += out
    return expected


def add(wrapper: "DenseLoraCPU", layer: Stacked, x: Tensor, y: Tensor) -> Tensor:
    out = y.clone()
    with torch.inference_mode():  # where vLLM runs it
        wrapper.add_lora_linear(out, x, layer.a, layer.b, 1.0, layer.outs)
    return out


@pytest.mark.parametrize("rows", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize("rank", [1, 8])
@pytest.mark.parametrize("outs", [(6,), (6, 2, 2), (10, 10)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_row_gets_its_own_adapters_product(
    rows: list[int], rank: int, outs: tuple[int, ...], dtype: torch.dtype
) -> None:
    layer = stacked(rank, 12, outs, dtype)
    x, y = torch.randn(len(rows), 12).to(dtype), torch.randn(len(rows), sum(outs)).to(dtype)
    seen = add(wrapper(rows), layer, x, y)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(seen.float(), plain(layer, x, y, rows), rtol=tolerance, atol=10 * tolerance)
    for row, adapter in enumerate(rows):
        assert adapter or torch.equal(seen[row], y[row]), "the base model's rows must not change"


def test_an_adapter_that_is_written_later_is_the_one_that_counts() -> None:
    layer, rows = stacked(1, 12, (6, 2, 2), torch.float32), [11, 13, 11]
    ours = wrapper(rows)
    x, y = torch.randn(3, 12), torch.randn(3, 10)
    before = add(ours, layer, x, y)
    layer.write(0, seed=100)  # vLLM gives a freed slot to the next version
    after = add(ours, layer, x, y)
    assert not torch.allclose(before[0], after[0])
    assert torch.equal(before[1], after[1])
    torch.testing.assert_close(after, plain(layer, x, y, rows))


def test_the_next_batch_has_rows_of_its_own() -> None:
    layer = stacked(1, 12, (6,), torch.float32)
    ours = wrapper([11, 12, 0])
    x, y = torch.randn(3, 12), torch.randn(3, 6)
    add(ours, layer, x, y)
    set_rows(ours, [14, 14, 11])
    torch.testing.assert_close(add(ours, layer, x, y), plain(layer, x, y, [14, 14, 11]))


def test_a_row_is_the_same_whoever_shares_its_batch() -> None:
    """Masked columns are exact zeros: a policy's logprobs do not depend on what else is served."""
    layer = stacked(1, 12, (6, 2, 2), torch.float32)
    x, y = torch.randn(4, 12), torch.randn(4, 10)
    alone, together = add(wrapper([12] * 4), layer, x, y), add(wrapper([12, 11, 0, 12]), layer, x, y)
    torch.testing.assert_close(alone[[0, 3]], together[[0, 3]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("rows", BATCHES.values(), ids=BATCHES.keys())
def test_an_adapted_output_layer_adds_to_the_logits_alone(rows: list[int]) -> None:
    """vLLM pads the logits' rows and the vocabulary of the adapter differently; here the latter is longer."""
    layer = stacked(1, 12, (VOCABULARY + 3,), torch.float32)
    x, y = torch.randn(len(rows), 12), torch.randn(len(rows), VOCABULARY)
    expected = plain(Stacked(layer.a, (layer.b[0][:, :, :VOCABULARY],), (VOCABULARY,)), x, y, rows)
    with torch.inference_mode():
        wrapper(rows).add_lora_logits(y, x, layer.a[0], layer.b[0], 1.0)
    torch.testing.assert_close(y, expected)


def test_an_output_layer_that_no_adapter_changes_costs_nothing() -> None:
    a, b = torch.zeros(SLOTS, 1, 1, 12), torch.zeros(SLOTS, 1, VOCABULARY, 1)
    y: Any = torch.randn(3, VOCABULARY)
    before = y.clone()
    wrapper([11, 12, 13]).add_lora_logits(y, torch.randn(3, 12), a, b, 1.0)
    assert torch.equal(y, before)
