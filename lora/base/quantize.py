"""The layers of a model that `model.quantization` means, replaced by their codes and counted."""

from collections.abc import Iterator
from typing import Any, cast

from torch import nn

from lora.base.architecture import KNOWN, UnsupportedModel, is_linear, reads_text
from lora.base.dtype import torch_dtype
from lora.base.linear_names import all_linear
from lora.config import ModelConfig, Quantization
from lora.layers.experts import is_experts
from lora.layers.quantized import KINDS, NF4_BLOCK, QuantizedLinear, quantization_library

SCALE_BYTES = 4
"""At most: an int8 layer of a bfloat16 model has scales of two bytes."""


def check_quantization(skeleton: nn.Module, quantization: Quantization) -> None:
    """Refuse a model that would be kept in part only, or otherwise by an engine than by a learner.

    The model may be on the meta device.

    Raises:
        ValueError: the library is not installed, or it is such a model.
    """
    quantization_library(quantization)
    causal_lm: Any = skeleton
    if getattr(causal_lm.config, "quantization_config", None) is not None:
        raise UnsupportedModel("the files of this model are quantised already: leave model.quantization out")
    if any(is_experts(module) for module in reads_text(skeleton)):
        raise UnsupportedModel(
            "model.quantization does not reach experts, which are most of this model's weights: leave it out"
        )
    names, strange = set(all_linear(skeleton)), list[str]()
    for name, _ in _text_linears(skeleton):
        if (leaf := name.rpartition(".")[2]) not in names:
            strange.append(leaf)
    if strange or not names:
        kind = causal_lm.config.model_type
        raise UnsupportedModel(
            f"model.quantization is not known to be right for models of type {kind!r}, whose "
            f"{strange[0] if strange else 'layers'} cannot be adapted either: leave it out; {KNOWN}"
        )


def quantize(model: nn.Module, quantization: Quantization, device: str) -> None:
    """Replace the linear layers that text goes through, but for the output layer, by their codes on `device`.

    The model is on a CPU. One layer at a time has both its weight and its codes.

    Raises:
        ValueError: as `check_quantization`.
    """
    check_quantization(model, quantization)
    for name in [name for name, _ in _text_linears(model)]:  # names alone, which keep no weight alive
        parent, _, leaf = name.rpartition(".")
        quantised = KINDS[quantization](cast(nn.Linear, model.get_submodule(name))).to(device)
        setattr(model.get_submodule(parent), leaf, quantised)


def dequantize(model: nn.Module) -> None:
    """Replace quantised layers by plain ones in float32 that compute with the numbers of their codes."""
    for name, module in list(model.named_modules()):
        if isinstance(module, QuantizedLinear):
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, module.plain())


def weight_bytes(model: nn.Module, config: ModelConfig) -> int:
    """Return the bytes of a model's weights as they are kept; the model is not quantised, and may be a skeleton."""
    size = torch_dtype(config).itemsize
    whole = sum(parameter.numel() for parameter in model.parameters()) * size
    if config.quantization is None:
        return whole
    saved = sum(
        linear.weight.numel() * size - _code_bytes(config.quantization, linear) for _, linear in _text_linears(model)
    )
    return whole - saved


def _code_bytes(quantization: Quantization, linear: nn.Linear) -> int:
    numbers = linear.weight.numel()
    if quantization == "nf4":
        return numbers // 2 + SCALE_BYTES * -(-numbers // NF4_BLOCK)
    return numbers + SCALE_BYTES * linear.out_features


def _text_linears(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Yield the linear layers that text goes through, but for the output layer, by their whole names."""
    causal_lm: Any = model
    text_modules, output = reads_text(model), causal_lm.get_output_embeddings()
    for name, module in model.named_modules():
        if is_linear(module) and module in text_modules and module is not output:
            yield name, module
