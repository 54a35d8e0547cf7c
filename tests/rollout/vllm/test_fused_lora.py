"""Adapters inside vLLM's compiled model against the plain formula, row by row, eagerly and traced."""

from importlib.util import find_spec
from typing import Any

import pytest
import torch

if find_spec("vllm") is None:
    pytest.skip("needs vLLM", allow_module_level=True)

from rollout.vllm.patches.joined_lora import join, padded

SLOTS, D_IN, OUTS = 3, 16, (12, 4, 4)


@pytest.mark.parametrize("backend", ["eager", "traced"])
@pytest.mark.parametrize("rank", [1, 2, 8])
def test_every_row_gets_its_own_adapter_and_no_other(rank: int, backend: str) -> None:
    from rollout.vllm.patches.fused_lora import MULTIPLE, add

    def fresh(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw)

    draw = torch.Generator().manual_seed(rank)
    a_stacked = tuple(torch.zeros(SLOTS, 1, rank, D_IN) for _ in OUTS)
    b_stacked = tuple(torch.zeros(SLOTS, 1, out, rank) for out in OUTS)
    A, B = join(a_stacked, b_stacked, multiple=MULTIPLE)
    for each in (*a_stacked, *b_stacked):  # as vLLM writes an adapter: later, into its own tensors
        each.copy_(fresh(*each.shape))
    adapters = torch.tensor([0, -1, 2, 1, 1, -1, 0])
    x, y = fresh(len(adapters), D_IN), fresh(len(adapters), sum(OUTS))
    function: Any = add if backend == "eager" else torch.compile(add, backend="aot_eager", fullgraph=True)
    slots = torch.arange(SLOTS).repeat_interleave(A.shape[1])

    found = function(y, x, padded(A, MULTIPLE), B.flatten(0, 1), adapters, slots)

    for row, adapter in enumerate(adapters.tolist()):
        deltas = [x[row] @ a[adapter, 0].T @ b[adapter, 0].T for a, b in zip(a_stacked, b_stacked, strict=True)]
        expected = y[row] + (torch.cat(deltas) if adapter >= 0 else 0)
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-5)
