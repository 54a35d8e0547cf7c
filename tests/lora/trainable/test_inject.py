"""Adapters on real architectures: what they change, what they leave alone, and how they begin."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from lora.accounting import advice, trained_parameters
from lora.config import LoraConfig
from lora.trainable.inject import inject
from lora.trainable.lora_layers import LoraLayers

SHAPE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
DENSE: dict[str, Callable[..., Any]] = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "gemma2": Gemma2Config,
    "gemma3": Gemma3TextConfig,
}
ATTENTION = LoraConfig(targets=("q_proj", "k_proj", "v_proj", "o_proj"))
IDS = torch.arange(1, 13)[None]


def build(config: Any, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config).to(dtype).eval()


def tiny(family: str = "llama", dtype: torch.dtype = torch.float32) -> Any:
    return build(DENSE[family](**SHAPE), dtype)


def randomise(layers: LoraLayers, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in layers.values():
            layer.lora_B.copy_(torch.randn(layer.lora_B.shape, generator=generator) * 0.1)


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model(IDS).logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", DENSE)
def test_a_fresh_adapter_gives_the_base_models_logits_bit_for_bit_and_a_moved_one_does_not(
    family: str, dtype: torch.dtype
) -> None:
    model = tiny(family, dtype)
    before = logits(model)
    layers = inject(model, LoraConfig(rank=2))
    assert torch.equal(logits(model), before)
    randomise(layers)
    assert not torch.allclose(logits(model), before, atol=1e-3)
    with layers.disabled():
        assert torch.equal(logits(model), before)


@pytest.mark.parametrize("family", DENSE)
def test_every_linear_layer_of_every_block_is_adapted(family: str) -> None:
    layers = inject(tiny(family), LoraConfig())
    expected = {"self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"), "mlp": ("gate_proj", "up_proj", "down_proj")}
    assert set(layers) == {
        f"model.layers.{i}.{part}.{name}" for i in range(2) for part, names in expected.items() for name in names
    }


@pytest.mark.parametrize("family", DENSE)
def test_only_the_adapter_gets_gradients(family: str) -> None:
    model = tiny(family)
    layers = inject(model, LoraConfig(lm_head=True))
    randomise(layers)
    model(IDS).logits.square().sum().backward()
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert moved == {name for name in dict(model.named_parameters()) if name.endswith(("lora_A", "lora_B"))}
    assert all(parameter.grad.abs().sum() > 0 for parameter in layers.tensors().values())


def shaped_like(**shape: Any) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(LlamaConfig(**shape))


def test_rank_1_with_lm_head_on_llama_8b_is_2753792_parameters() -> None:
    model = shaped_like(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, tie_word_embeddings=False,
    )  # fmt: skip
    assert trained_parameters(inject(model, LoraConfig(rank=1, lm_head=True))) == 2_753_792


@pytest.mark.parametrize(("rank", "parameters"), [(1, 305_280), (8, 8 * 305_280)])
def test_parameters_on_smollm2_135m_are_305280_a_rank(rank: int, parameters: int) -> None:
    model = shaped_like(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True,
    )  # fmt: skip
    assert trained_parameters(inject(model, LoraConfig(rank=rank))) == parameters


@pytest.mark.parametrize("rank", [1, 8])
def test_a_is_uniform_within_one_over_the_root_of_its_width_and_b_is_zero(rank: int) -> None:
    for layer in inject(build(LlamaConfig(**SHAPE | {"hidden_size": 1024})), LoraConfig(rank=rank)).values():
        bound = 1 / math.sqrt(layer.lora_A.shape[1])
        scaled = layer.lora_A.detach().flatten() / bound
        assert scaled.abs().max() <= 1
        if len(scaled) >= 1024:
            assert scaled.abs().max() > 0.98
            assert abs(scaled.std().item() - 1 / math.sqrt(3)) < 0.05
            assert abs(scaled.mean().item()) < 0.08
        assert not layer.lora_B.any()


def test_master_weights_are_float32_over_a_bfloat16_base() -> None:
    model = tiny(dtype=torch.bfloat16)
    layers = inject(model, LoraConfig(rank=2))
    assert {tensor.dtype for tensor in layers.tensors().values()} == {torch.float32}
    assert model(IDS).logits.dtype == torch.bfloat16


@pytest.mark.parametrize(("rank", "alpha"), [(1, 32), (3, 32), (4, 10)])
@pytest.mark.parametrize("experts", [False, True])
def test_a_policy_computes_and_learns_as_the_adapter_that_it_publishes_rounded(
    rank: int, alpha: float, experts: bool
) -> None:
    """An engine scales numbers that were rounded already, whatever the scale is."""
    mixture = {"moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2}
    config = Qwen3MoeConfig(**SHAPE, **mixture) if experts else LlamaConfig(**SHAPE)
    model = build(config, torch.bfloat16)
    layers = inject(model, LoraConfig(rank=rank, alpha=alpha))
    randomise(layers)
    outcomes: list[list[Tensor]] = []
    for _ in range(2):
        output = model(IDS).logits
        outcomes.append([output, *torch.autograd.grad(output.float().square().sum(), layers.leaves())])
        layers.load({name: tensor.detach().bfloat16() for name, tensor in layers.tensors().items()})
    assert all(torch.equal(own, published) for own, published in zip(*outcomes, strict=True))


def test_the_same_seed_gives_the_same_a_and_another_seed_another() -> None:
    first, same, other = (inject(tiny(), LoraConfig(), seed=seed).tensors() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert all(not torch.equal(first[name], other[name]) for name in first if name.endswith("lora_A"))


def test_a_target_that_names_no_layer_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"names c_attn, but .* down_proj, gate_proj, k_proj, lm_head") as caught:
        inject(tiny(), LoraConfig(targets=("q_proj", "c_attn")))
    assert "\n" not in str(caught.value)


def test_attention_alone_can_be_adapted() -> None:
    layers = inject(tiny(), ATTENTION)
    assert len(layers) == 2 * 4
    assert not any("mlp" in name for name in layers)


def test_of_a_mixture_attention_alone_can_be_adapted() -> None:
    """Its experts are no linear layers: see `test_experts`."""
    shape = SHAPE | {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
    model = build(Qwen3MoeConfig(**shape))
    before = logits(model)
    layers = inject(model, ATTENTION)
    assert torch.equal(logits(model), before)
    randomise(layers)
    assert not torch.allclose(logits(model), before, atol=1e-3)


def test_loading_another_models_tensors_is_refused() -> None:
    layers = inject(tiny(), LoraConfig())
    with pytest.raises(ValueError, match="in one only"):
        layers.load(inject(tiny(), ATTENTION).tensors())
    with pytest.raises(ValueError, match="has shape"):
        layers.load(inject(tiny(), LoraConfig(rank=2)).tensors())


def test_loading_gives_the_same_policy() -> None:
    one, other = tiny(), tiny()
    layers = inject(one, LoraConfig(rank=2))
    randomise(layers)
    inject(other, LoraConfig(rank=2), seed=9).load(layers.tensors())
    assert torch.equal(logits(one), logits(other))


factors = st.floats(0.1, 10)


@settings(max_examples=10, deadline=None)
@given(p=factors, q=factors)
def test_rescaling_alpha_a_and_the_learning_rates_together_changes_nothing(p: float, q: float) -> None:
    """(alpha, init A, LR A, LR B) -> (alpha / pq, p init A, p LR A, q LR B), with Adam's eps 0, trains the same."""

    def trained(p: float, q: float) -> list[Tensor]:
        model = tiny().double()
        layers = inject(model, LoraConfig(rank=2, alpha=32 / (p * q)))
        randomise(layers)  # from B = 0 the first gradient of A is 0, which Adam divides by its root
        for layer in layers.values():
            layer.lora_A.data = layer.lora_A.data.double() * p
            layer.lora_B.data = layer.lora_B.data.double() * q
        optimizer = torch.optim.Adam(
            [
                {"params": [layer.lora_A for layer in layers.values()], "lr": 1e-3 * p},
                {"params": [layer.lora_B for layer in layers.values()], "lr": 1e-3 * q},
            ],
            betas=(0.9, 0.95),
            eps=0,
        )
        seen: list[Tensor] = []
        for _ in range(4):
            optimizer.zero_grad()
            model(IDS).logits.log_softmax(-1)[0, :-1].gather(1, IDS[0, 1:, None]).sum().neg().backward()
            optimizer.step()
            seen.append(logits(model))
        return seen

    plain, rescaled = trained(1, 1), trained(p, q)
    assert not torch.allclose(plain[0], plain[-1], atol=1e-3)
    for one, other in zip(plain, rescaled, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "lr", "warning"),
    [
        (8_000_000_000, 5e-5, None),
        (8_000_000_000, 5e-6, "full fine-tuning"),
        (8_000_000_000, 1e-3, "collapse"),
        (135_000_000, 5e-4, None),
    ],
)
def test_a_learning_rate_far_from_what_works_is_warned_of_with_a_better_one(
    parameters: int, lr: float, warning: str | None
) -> None:
    said = advice(parameters, LoraConfig(), lr, completions_per_step=128)
    if warning is None:
        assert said == []
    else:
        (line,) = said
        assert warning in line
        assert "try 5e-05" in line
