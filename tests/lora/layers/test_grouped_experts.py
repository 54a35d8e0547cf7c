"""Grouped products give what the loop over experts gives, with every adapter where it belongs."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Qwen2MoeConfig

from lora.config import LoraConfig
from lora.layers.experts import ExpertsLowRank, ExpertsPair
from lora.layers.grouped_experts import apply_grouped
from lora.trainable.inject import inject
from lora.trainable.lora_layers import routed

TOKENS, HIDDEN, WIDTH, EXPERTS, ACTIVE = 29, 32, 16, 6, 3
Part = slice | None
PARTS: dict[str, tuple[Part, ...]] = {
    "none": (), "one for all": (None,), "one for some": (slice(0, 11),), "two": (slice(0, 11), slice(11, 25)),
}  # fmt: skip


def random(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator) / 4


def random_pair(base: Any, rank: int, generator: torch.Generator) -> ExpertsPair:
    pair = ExpertsPair(*(ExpertsLowRank(w, rank, 16.0, generator) for w in (base.gate_up_proj, base.down_proj)))
    with torch.no_grad():
        for low_rank in (pair.gate_up, pair.down):
            low_rank.lora_B.copy_(random(generator, *low_rank.lora_B.shape))
    return pair


def one_by_one(
    base: Any, x: Tensor, index: Tensor, weights: Tensor, adapters: Sequence[tuple[ExpertsPair, Part]]
) -> Tensor:
    """A token at a time, through whole weights."""
    rows: list[Tensor] = []
    for token in range(len(x)):
        parts = [pair for pair, part in adapters if part is None or part.start <= token < part.stop]
        row = torch.zeros(HIDDEN)
        for expert, weight in zip(index[token].tolist(), weights[token], strict=True):
            if expert >= EXPERTS:
                continue
            first = base.gate_up_proj[expert] + sum(pair.gate_up.product()[expert] for pair in parts)
            second = base.down_proj[expert] + sum(pair.down.product()[expert] for pair in parts)
            gate, up = (first @ x[token]).chunk(2)
            row = row + weight * (second @ (nn.functional.silu(gate) * up))
        rows.append(row)
    return torch.stack(rows)


@pytest.mark.parametrize("rank", [1, 5])
@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_outputs_and_gradients_are_those_of_each_token_alone(parts: Sequence[Part], rank: int) -> None:
    """Expert 4 is chosen by nobody, and some choices are marks for no expert."""
    generator = torch.Generator().manual_seed(0)
    base = SimpleNamespace(
        gate_up_proj=random(generator, EXPERTS, 2 * WIDTH, HIDDEN), down_proj=random(generator, EXPERTS, HIDDEN, WIDTH),
        act_fn=nn.functional.silu,
    )  # fmt: skip
    adapters = [(random_pair(base, rank, generator), part) for part in parts]
    scores = torch.rand(TOKENS, EXPERTS + 1, generator=generator)
    scores[:, 4] = -1
    index = scores.topk(ACTIVE).indices
    assert (index == EXPERTS).any()
    x = random(generator, TOKENS, HIDDEN).requires_grad_()
    weights = torch.rand(TOKENS, ACTIVE, generator=generator).requires_grad_()
    inputs = [x, weights, *(p for pair, _ in adapters for p in pair.parameters())]
    above = random(generator, TOKENS, HIDDEN)
    got, expected = (apply(base, x, index, weights, adapters) for apply in (apply_grouped, one_by_one))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    gradients = (torch.autograd.grad(out, inputs, above) for out in (got, expected))
    for mine, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mixture_on_a_gpu_would_compute_what_it_does_here(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's way through whole models, taken on a CPU: two policies in a batch, one, and none."""
    torch.manual_seed(0)
    config = Qwen2MoeConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, initializer_range=0.2, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24,
        shared_expert_intermediate_size=24,
    )  # fmt: skip
    model: Any = AutoModelForCausalLM.from_config(config).to(dtype).eval()
    policies = [inject(model, LoraConfig(rank=rank), seed=rank) for rank in (1, 8)]
    for layers in policies:
        for name, tensor in layers.tensors().items():
            if name.endswith("lora_B"):
                nn.init.normal_(tensor, std=0.05)
    ids = torch.randint(3, 60, (2, 9))

    def logits() -> list[Tensor]:
        routes = [
            routed([(policies[0], slice(0, 9)), (policies[1], slice(9, 18))], 18), policies[1].exclusively(),
            policies[0].disabled(),
        ]  # fmt: skip
        out: list[Tensor] = []
        for route in routes:
            with route, torch.no_grad():
                out.append(model(ids).logits.float())
        return out

    expected = logits()
    monkeypatch.setattr("lora.layers.experts.multiplies_groups", Tensor.is_floating_point)
    got = logits()
    for mine, reference, again in zip(got, expected, logits(), strict=True):
        assert (mine - reference).norm() <= (1e-5 if dtype == torch.float32 else 0.03) * reference.norm()
        assert torch.equal(mine, again)
    assert not torch.allclose(got[1], got[2])
