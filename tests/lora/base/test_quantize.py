"""Bases in fewer bits: a layer is the dequantised one, forward and backward, and what would be kept in part is refused."""

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from helpers.hybrids import save_hybrid
from helpers.reference import save_tiny
from torch import nn
from transformers import AutoModelForCausalLM

from lora.accounting import model_parameters
from lora.base.architecture import UnsupportedModel
from lora.base.load import check_base, load_base, load_skeleton
from lora.base.quantize import dequantize, quantize, weight_bytes
from lora.config import LoraConfig, ModelConfig, Quantization
from lora.layers.quantized import KINDS, Fp8Linear, Int8Linear, QuantizedLinear, torchao_config
from lora.layers.wide_head import WideHead
from lora.trainable.inject import inject

KINDS_OF_CODES: tuple[Quantization, ...] = get_args(Quantization)
IDS = torch.randint(3, 44, (2, 24), generator=torch.Generator().manual_seed(0))
every_kind = pytest.mark.parametrize("kind", KINDS_OF_CODES)


def quantised(kind: Quantization, dtype: Any = "float32", name: str = "tiny-random") -> ModelConfig:
    return ModelConfig(name=name, dtype=dtype, max_length=64, quantization=kind)


def dense(model: Any) -> Any:
    """Return a model of plain layers that hold the dequantised weights."""
    plain = copy.deepcopy(model)
    dequantize(plain)
    assert not any(isinstance(module, QuantizedLinear) for module in plain.modules())
    return plain


def linear(d_in: int, d_out: int, *, bias: bool = True, dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(d_in, d_out, bias, dtype=dtype)


@every_kind
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_and_its_gradient_are_the_dequantised_ones(kind: Quantization, bias: bool) -> None:
    layer = KINDS[kind](linear(128, 96, bias=bias))
    plain = layer.plain()
    x, same_x = (torch.randn(2, 7, 128, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in "ab")
    y, expected = layer(x), plain(same_x)
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)
    slope = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    (y * slope).sum().backward()
    (expected * slope).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, same_x.grad, rtol=1e-6, atol=1e-6)


@every_kind
def test_codes_are_near_the_weights_and_no_graph_keeps_a_weight(kind: Quantization) -> None:
    original = linear(128, 96)
    layer = KINDS[kind](original)
    error = (layer.dequantised() - original.weight).abs() / original.weight.abs().max()
    assert 0 < error.max() < {"int8": 0.005, "fp8": 0.05, "nf4": 0.2}[kind]
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(torch.randn(3, 128, requires_grad=True))
    assert not any(tensor.numel() >= 96 * 128 for tensor in kept)
    assert layer.codes.numel() * layer.codes.element_size() == {"int8": 1, "fp8": 1, "nf4": 0.5}[kind] * 96 * 128


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cls", [Int8Linear, Fp8Linear])
def test_products_are_torchaos_own_to_the_bit(cls: type[QuantizedLinear], dtype: torch.dtype) -> None:
    """vLLM multiplies by torchao's tensors: what they round, the learner rounds too."""
    from torchao.quantization import quantize_

    original = linear(128, 96, bias=False, dtype=dtype)
    holder: Any = nn.Sequential(copy.deepcopy(original))
    quantize_(holder, torchao_config("int8" if cls is Int8Linear else "fp8"))
    x = torch.randn(5, 128, generator=torch.Generator().manual_seed(1)).to(dtype)
    layer = cls(original)
    assert torch.equal(layer(x), holder(x))
    if cls is Fp8Linear:
        assert torch.equal(layer.weight, holder[0].weight.dequantize())


def test_rows_of_several_matrices_have_the_same_codes_in_one() -> None:
    """As engines keep q, k and v together."""
    for kind in KINDS_OF_CODES:
        first, second = linear(128, 32, bias=False), nn.Linear(128, 16, bias=False)
        both = nn.Linear(128, 48, bias=False)
        both.weight = nn.Parameter(torch.cat([first.weight, second.weight]))
        apart = [KINDS[kind](layer).dequantised() for layer in (first, second)]
        assert torch.equal(KINDS[kind](both).dequantised(), torch.cat(apart)), kind


@every_kind
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_is_the_dense_one_with_dequantised_weights(kind: Quantization, dtype: Any) -> None:
    model: Any = load_base(quantised(kind, dtype))
    full: Any = load_base(ModelConfig(name="tiny-random", dtype=dtype))
    layers = [module for module in model.modules() if isinstance(module, QuantizedLinear)]
    assert len(layers) == 2 * 7, "all but the output layer"
    assert not isinstance(model.get_output_embeddings(), QuantizedLinear)
    assert isinstance(model.get_output_embeddings(), WideHead) == (dtype == "bfloat16")
    with torch.no_grad():
        logits, of_dense = model(IDS).logits.float(), dense(model).float()(IDS).logits
        assert (logits - of_dense).abs().max() < (1e-5 if dtype == "float32" else 0.2)
        assert (logits - full(IDS).logits.float()).abs().max() > 1e-3
    again = load_base(quantised(kind, dtype))
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), again.buffers(), strict=True)), "the same codes"


@every_kind
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2-sliding-softcap", "granite-scaled-logits"])
def test_adapters_learn_what_they_would_on_the_dense_model(kind: Quantization, family: str, tmp_path: Path) -> None:
    save_tiny(family, tmp_path)
    model: Any = load_base(quantised(kind, name=str(tmp_path)))
    plain = dense(model)
    names = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, QuantizedLinear)}
    lora = LoraConfig(rank=2, targets=tuple(sorted(names))[::2])  # gradients also pass layers without an adapter
    gradients: list[list[torch.Tensor]] = []
    for one in (model, plain):
        layers = inject(one, lora, seed=1)
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for name, tensor in layers.tensors().items():
                if name.endswith("lora_B"):
                    tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.05)
        one(IDS).logits.log_softmax(-1)[..., 5].sum().backward()
        gradients.append([tensor.grad for tensor in layers.tensors().values() if tensor.grad is not None])
        assert len(gradients[-1]) == len(layers.tensors())
    for mine, expected in zip(*gradients, strict=True):
        assert (mine - expected).norm() <= 1e-5 * expected.norm()


@every_kind
def test_bytes_and_parameters_are_counted(kind: Quantization) -> None:
    config = quantised(kind, "bfloat16")
    model, skeleton = load_base(config), load_skeleton(config)
    assert model_parameters(model) == model_parameters(skeleton)
    codes = sum(b.numel() * b.element_size() for n, b in model.named_buffers() if n.endswith(("codes", "scales")))
    kept = codes + sum(p.numel() * p.element_size() for p in model.parameters())
    planned = weight_bytes(skeleton, config)
    assert kept <= planned < 1.02 * kept
    assert planned < 0.8 * weight_bytes(skeleton, ModelConfig(name="tiny-random", dtype="bfloat16"))


Change = Callable[[Path], object]
REFUSED: dict[str, tuple[Change, str]] = {
    "experts": (lambda path: save_tiny("mixtral", path), "does not reach experts"),
    "layers whose weight is taken": (lambda path: save_hybrid("jamba", path), "leave it out"),
    "quantised already": (lambda path: _mark_as_quantised(path), "quantised already"),
}


def _mark_as_quantised(path: Path) -> None:
    save_tiny("llama", path)
    text = (path / "config.json").read_text()
    (path / "config.json").write_text(text.replace("{", '{"quantization_config": {"quant_method": "fp8"},', 1))


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_kept_in_part_is_refused_before_weights_are_read(case: str, tmp_path: Path) -> None:
    save, says = REFUSED[case]
    save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UnsupportedModel, match=says) as raised:
        check_base(quantised("int8", name=str(tmp_path)))
    assert "\n" not in str(raised.value)


@every_kind
def test_a_library_that_is_missing_is_named_with_what_to_do(
    kind: Quantization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes" if kind == "nf4" else "torchao", None)
    with pytest.raises(ValueError, match=r"needs (torchao|bitsandbytes).*pip install 'rankone\[quantization\]'"):
        check_base(quantised(kind))


def test_quantising_needs_no_second_model(tmp_path: Path) -> None:
    save_tiny("llama", tmp_path)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    head = model.get_output_embeddings().weight
    quantize(model, "int8", "cpu")
    assert model.get_output_embeddings().weight is head
    assert not any(p.requires_grad for m in model.modules() if isinstance(m, QuantizedLinear) for p in m.parameters())
