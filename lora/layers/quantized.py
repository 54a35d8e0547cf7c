"""A base model's linear layers in 8 or 4 bits a weight: frozen, with gradients of inputs alone.

A layer computes with the numbers that its codes stand for, in both passes: an adapter on it is trained on the
dequantised model, exactly. torchao makes the codes of `int8` and `fp8`, with a scale for each row, and bitsandbytes
those of `nf4`, with a scale for each 64 weights ("QLoRA", Dettmers et al. 2023, without its quantisation of the
scales). Codes are made on a CPU, so they are the same wherever the model then is.
"""

import importlib
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lora.config import Quantization
from lora.layers.quiet import quieten

quieten()

NF4_BLOCK = 64
"""Weights of a row, mostly, that share a scale. Blocks do not cross rows where these have a multiple of it, so that the
codes of q, k and v are the same whether or not an engine keeps them in one matrix."""

Factors = tuple[Float[Tensor, "d_out d_in"], Float[Tensor, " d_out"] | None]
"""C and s of W = diag(s) C, in the activations' type; s is None where it is in C already."""


class QuantizedLinear(nn.Linear):
    """y = W x + b, with a W that exists only while it multiplies."""

    codes: Tensor
    scales: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        """Quantise a layer's weight, which is on a CPU. Raises ValueError if the library for that is not there."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.dtype = linear.weight.dtype
        bias: Tensor | None = getattr(linear, "bias", None)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        codes, scales = self.encode(linear.weight.detach())
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)

    def encode(self, weight: Float[Tensor, "d_out d_in"]) -> tuple[Tensor, Tensor]:
        """Return the weight's codes and scales."""
        raise NotImplementedError

    def factors(self) -> Factors:
        """Return what the layer multiplies by, made anew."""
        raise NotImplementedError

    def dequantised(self) -> Float[Tensor, "d_out d_in"]:
        """Return the weight that the codes stand for, in float32."""
        matrix, scales = self.factors()
        return matrix.float() if scales is None else matrix.float() * scales.float()[:, None]

    @property
    def weight(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Return the weight that the codes stand for, in the model's type, for code that asks for it."""
        return self.dequantised().to(self.dtype)

    def forward(self, input: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        product: Any = _FrozenProduct.apply(input.flatten(0, -2), self)
        y = product.unflatten(0, input.shape[:-1])
        return y if self.bias is None else y + self.bias

    def plain(self) -> nn.Linear:
        """Return a layer of torch's own that computes the same, in float32."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        linear.weight = nn.Parameter(self.dequantised(), requires_grad=False)
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach().float(), requires_grad=False)
        return linear


class Int8Linear(QuantizedLinear):
    """A row's largest weight is 127 of its scale. Products are scaled behind the sum, as torchao does it."""

    def encode(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        codes, scales = _torchao_codes(weight, "int8")
        return codes, scales.to(self.dtype)  # the type that torchao has them in when it multiplies

    def factors(self) -> Factors:
        return self.codes.to(self.dtype), self.scales


class Fp8Linear(QuantizedLinear):
    """A row's largest weight is the largest number of float8 (e4m3) times its scale."""

    def encode(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return _torchao_codes(weight, "fp8")

    def factors(self) -> Factors:
        return (self.codes.float() * self.scales[:, None]).to(self.dtype), None


class Nf4Linear(QuantizedLinear):
    """Two codes a byte, each of 16 numbers that a normal distribution has equally often."""

    def encode(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        functional: Any = quantization_library("nf4").functional
        codes, state = functional.quantize_4bit(
            weight.contiguous(), blocksize=NF4_BLOCK, compress_statistics=False, quant_type="nf4"
        )
        return codes, state.absmax

    def factors(self) -> Factors:
        functional: Any = quantization_library("nf4").functional
        shape = torch.Size((self.out_features, self.in_features))
        state = functional.QuantState(
            absmax=self.scales, shape=shape, dtype=self.dtype, blocksize=NF4_BLOCK, quant_type="nf4"
        )
        return functional.dequantize_4bit(self.codes, state), None


class _FrozenProduct(torch.autograd.Function):
    """x W^T, for whose gradient W is made anew: autograd would keep every layer's until the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Float[Tensor, "positions d_in"], layer: QuantizedLinear
    ) -> Float[Tensor, "positions d_out"]:
        ctx.layer = layer
        matrix, scales = layer.factors()
        y = x @ matrix.T
        return y if scales is None else y.mul_(scales)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        matrix, scales = ctx.layer.factors()
        grad = grad_outputs[0] if scales is None else grad_outputs[0] * scales
        return grad @ matrix, None


KINDS: Final[dict[Quantization, type[QuantizedLinear]]] = {"int8": Int8Linear, "fp8": Fp8Linear, "nf4": Nf4Linear}
LIBRARIES: Final[dict[Quantization, str]] = {"int8": "torchao", "fp8": "torchao", "nf4": "bitsandbytes"}


def quantization_library(quantization: Quantization) -> Any:
    """Import the library that makes a kind of codes. Raises ValueError, in one line, if it is not installed."""
    name = LIBRARIES[quantization]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f'model.quantization = "{quantization}" needs {name}, which cannot be imported ({error}): '
            "pip install 'rankone[quantization]', or leave the key out"
        ) from error


def torchao_config(quantization: Quantization) -> Any:
    """Return torchao's configuration of a kind of codes, which vLLM's loader takes, too.

    Raises:
        ValueError: torchao is not installed.
    """
    quantization_library(quantization)
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    return Int8WeightOnlyConfig() if quantization == "int8" else Float8WeightOnlyConfig()


def _torchao_codes(
    weight: Float[Tensor, "d_out d_in"], quantization: Quantization
) -> tuple[Tensor, Float[Tensor, " d_out"]]:
    config = torchao_config(quantization)
    from torchao.quantization import quantize_

    holder = nn.Sequential(nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta"))
    holder[0].weight = nn.Parameter(weight, requires_grad=False)
    quantize_(holder, config)
    quantised: Any = holder[0].weight
    return quantised.qdata, quantised.scale.flatten()
