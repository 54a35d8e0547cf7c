"""A frozen linear layer with trainable low-rank additions: y = W x + (alpha / rank) B A x (Hu et al. 2021, eq. 3)."""

import functools
import itertools
import math
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lora.layers.quantized import QuantizedLinear
from lora.layers.routing import Routing
from lora.layers.wide_head import WideHead

FEW = 8
"""Ranks up to it are computed as outer products in compiled graphs."""


def fresh_A(
    rows: int, d_in: int, device: torch.device, generator: torch.Generator | None
) -> Float[Tensor, "rows d_in"]:
    """Return a random A. It is drawn on the CPU: the same values on every device, and none on the meta device."""
    if device.type == "meta":
        return torch.empty(rows, d_in, device=device)
    bound = 1 / math.sqrt(d_in)
    return torch.empty(rows, d_in).uniform_(-bound, bound, generator=generator).to(device)


def keeps_rounding(scale: float) -> bool:
    """Return True for a power of two, by which it is the same to scale before rounding and after it."""
    return math.frexp(scale)[0] == 0.5


def scaled(B: Tensor, scale: float, dtype: torch.dtype, *, exact: bool) -> Tensor:
    """Return scale B in that type as an engine has it that was given B in that type: rounded before it is scaled, too.

    So the sampler and the learner round alike. The gradient knows of the last rounding alone. `exact` is what
    `keeps_rounding` says of the scale, which a compiler could not ask.
    """
    if exact or dtype == B.dtype:
        return (scale * B).to(dtype)
    rounding = rounded(B.detach(), dtype) - B.detach()
    return (scale * (B + rounding)).to(dtype)


def rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return float32 numbers as that type has them, in float32.

    bfloat16 is the upper half of float32's bits. Rounded as integers, to the even one of two that are as near, they
    stay so in compiled blocks, where a cast and another one back are left out.
    """
    if dtype != torch.bfloat16 or values.dtype != torch.float32:
        return values.to(dtype).to(values.dtype)
    bits = values.view(torch.int32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000).view(torch.float32)


class LowRank(nn.Module):
    """One adapter's part in one layer. Master weights are float32 whatever the base is.

    A ~ U(-1/sqrt(d_in), 1/sqrt(d_in)) and B = 0, so a fresh adapter gives the base's outputs bit for bit.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.exact = keeps_rounding(self.scale)
        device = next(itertools.chain(base.parameters(), base.buffers())).device
        self.lora_A = nn.Parameter(fresh_A(rank, base.in_features, device, generator))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, device=device))

    def cast(self, dtype: torch.dtype) -> tuple[Float[Tensor, "rank d_in"], Float[Tensor, "d_out rank"]]:
        """Return A, and B with the scale in it, where vLLM puts it too, as they multiply activations of that type."""
        return self.lora_A.to(dtype), scaled(self.lora_B, self.scale, dtype, exact=self.exact)


class NotCalled(AttributeError):
    """A model's own code takes the weight of an adapted layer, and passes by the adapter."""


class LoraLinear(nn.Module):
    """Wraps an `nn.Linear` in place, with a slot for every adapter on it."""

    def __init__(self, base: nn.Linear, routing: Routing, target: str = "") -> None:
        """`target` is the name by which `lora.targets` has it."""
        super().__init__()
        self.base = base.requires_grad_(False)
        self.slots = nn.ModuleDict()
        self.routing = routing
        self.target = target
        self._chosen: list[LowRank] = []
        """The adapter of `choose`, if there is one on this layer; in a list, where no module looks for its parts."""

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "bias"):
            raise NotCalled(
                f"lora.targets names {self.target!r}, and this model uses the {name} of such a layer without calling "
                "it, so an adapter on it would do nothing; take it out of lora.targets, or name it in lora.exclude"
            )
        return super().__getattr__(name)

    @property
    def is_used(self) -> bool:
        """True if the running batch goes through an adapter of this layer."""
        return any(str(slot) in self.slots for slot, _ in self.routing.route.segments)

    def choose(self, slot: int) -> None:
        """Take that adapter in what is compiled from here on, which cannot look at a route."""
        self._chosen[:] = [cast(LowRank, self.slots[str(slot)])] if str(slot) in self.slots else []

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        if torch.compiler.is_compiling():
            return self._traced(x)
        used = self.routing.used(self.slots, x.shape[:-1].numel())
        if not used:
            return self.base(x)
        if used[0][1] is None:
            return self._adapted(x, used[0][0])
        # Parts are positions of the flattened batch. In place is safe: `linear` does not keep its result for the
        # backward pass, and each part is a view of rows that no other part has.
        flat = x.flatten(0, -2)
        y = self.base(flat)
        for low_rank, part in used:
            A, B = low_rank.cast(x.dtype)
            y[part] += nn.functional.linear(nn.functional.linear(flat[part], A), B)
        return y.view(*x.shape[:-1], -1)

    def _adapted(self, x: Float[Tensor, "*batch d_in"], low_rank: LowRank) -> Float[Tensor, "*batch d_out"]:
        """Compute all positions with one adapter, which is the case that must be quick."""
        A, B = low_rank.cast(x.dtype)
        if isinstance(self.base, WideHead | QuantizedLinear):
            return self.base(x) + nn.functional.linear(nn.functional.linear(x, A), B)
        y = _AdaptedProduct.apply(x.flatten(0, -2), self.base.weight, self.base.bias, A, B)  # pyright: ignore[reportGeneralTypeIssues]
        return y.unflatten(0, x.shape[:-1]) if x.dim() != 2 else y

    def _traced(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """Compute all positions with the chosen adapter, in operations that a compiler joins with their neighbours."""
        y = self.base(x)
        for low_rank in self._chosen:
            A, B = low_rank.cast(x.dtype)
            y = y + _outer(nn.functional.linear(x, A), B)
        return y


def _outer(inner: Float[Tensor, "*batch rank"], B: Float[Tensor, "d_out rank"]) -> Float[Tensor, "*batch d_out"]:
    """Return inner B^T. A few outer products cost no pass over memory of their own where a compiler sees them."""
    if B.shape[1] > FEW:
        return nn.functional.linear(inner, B)
    parts = [inner[..., k, None] * B[:, k] for k in range(B.shape[1])]
    return functools.reduce(torch.add, parts)


class _AdaptedProduct(torch.autograd.Function):
    """y = x W^T + bias + (x A^T) B^T with a frozen W: the additions go into the products' own results, both ways.

    Nothing is kept but x and x A^T, and no gradient is made for W. Autograd by itself would add two tensors of the
    size of y in the forward pass and two of the size of x in the backward pass, each of them another pass over memory.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "positions d_in"],
        weight: Float[Tensor, "d_out d_in"],
        bias: Float[Tensor, " d_out"] | None,
        A: Float[Tensor, "rank d_in"],
        B: Float[Tensor, "d_out rank"],
    ) -> Float[Tensor, "positions d_out"]:
        inner = x @ A.T
        ctx.save_for_backward(x, weight, A, B, inner)
        return nn.functional.linear(x, weight, bias).addmm_(inner, B.T)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor]:
        x, weight, A, B, inner = ctx.saved_tensors
        grad = grad_outputs[0]
        grad_inner = grad @ B  # [positions, rank], which both grad_x and grad_A need
        # The first layer's input asks for no gradient, and its product with W is the dearest of the four.
        grad_x = (grad @ weight).addmm_(grad_inner, A) if ctx.needs_input_grad[0] else None
        return grad_x, None, None, grad_inner.T @ x, grad.T @ inner
