"""A mixture's experts on a GPU: one grouped product for all experts in place of a loop over them.

Every token stands once for each expert that it chose, in the order of experts, and `torch.nn.functional.grouped_mm`
multiplies each expert's run of tokens with its own weight. Nothing waits for the GPU to say which experts are there,
and sums over a token's experts have a fixed order, so that the same batch gives the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

ALIGNMENT = 16
"""Bytes by which the rows of both factors have to be divisible."""


def multiplies_groups(weight: Float[Tensor, "experts d_out d_in"]) -> bool:
    """True if torch has a grouped product for this weight, and its like in the other direction, where it is."""
    aligned = all(size * weight.element_size() % ALIGNMENT == 0 for size in (weight.shape[1] // 2, weight.shape[2]))
    return aligned and weight.is_cuda and torch.cuda.get_device_capability(weight.device) >= (8, 0)


@dataclass(frozen=True, slots=True)
class Choices:
    """The token and the expert of each row of the grouped products; rows are in the order of experts."""

    order: Int[Tensor, " rows"]
    """Places in the flattened choices, [tokens * active]."""
    active: int
    ends: Int[Tensor, " experts"]
    """The end of each expert's run of rows."""

    @classmethod
    def of(cls, index: Int[Tensor, "tokens active"], experts: int) -> Self:
        """Return the rows for the experts that each token chose; marks for "no expert" count as the last one."""
        chosen, order = index.clamp(max=experts - 1).flatten().sort(stable=True)
        ends = torch.searchsorted(chosen, torch.arange(experts, device=index.device), right=True)
        return cls(order, index.shape[1], ends.to(torch.int32))

    @property
    def tokens(self) -> Int[Tensor, " rows"]:
        """Return the token of each row."""
        return self.order // self.active

    def spread(self, x: Float[Tensor, "tokens width"]) -> Float[Tensor, "rows width"]:
        """Return each row's token. What is repeated first has its gradients added up in a fixed order."""
        repeated = x[:, None].expand(-1, self.active, -1).flatten(0, 1)
        return repeated.index_select(0, self.order)

    def gather(self, y: Float[Tensor, "rows width"]) -> Float[Tensor, "tokens width"]:
        """Return the sum of each token's rows."""
        return y.index_select(0, self.order.argsort()).unflatten(0, (-1, self.active)).sum(1)

    def multiply(
        self, x: Float[Tensor, "rows d_in"], weight: Float[Tensor, "experts d_out d_in"]
    ) -> Float[Tensor, "rows d_out"]:
        """Return each row's product with its expert's weight."""
        return nn.functional.grouped_mm(x, weight.transpose(1, 2), offs=self.ends)

    def add(
        self,
        y: Float[Tensor, "rows d_out"],
        x: Float[Tensor, "rows d_in"],
        matrices: tuple[Float[Tensor, "experts rank d_in"], Float[Tensor, "experts d_out rank"]],
        part: slice | None,
    ) -> Float[Tensor, "rows d_out"]:
        """Add an adapter's B A x to the rows of the tokens in `part`, or to all."""
        A, B = matrices
        # A low rank is no whole number of aligned bytes; columns of zeros change no product.
        missing = -A.shape[1] % (ALIGNMENT // A.element_size())
        within = self.multiply(x, nn.functional.pad(A, (0, 0, 0, missing)))
        if part is not None:
            tokens = self.tokens
            within = within * ((tokens >= part.start) & (tokens < part.stop))[:, None]
        return y + self.multiply(within, nn.functional.pad(B, (0, missing)).contiguous())


def apply_grouped(
    base: Any,
    x: Float[Tensor, "tokens hidden"],
    index: Int[Tensor, "tokens active"],
    weights: Float[Tensor, "tokens active"],
    adapters: Sequence[tuple[Any, slice | None]],
) -> Float[Tensor, "tokens hidden"]:
    """Return what a layer's experts make of tokens, each `ExpertsPair` added where its part of the batch is.

    Args:
        base: has `gate_up_proj` [experts, 2 width, hidden], `down_proj` [experts, hidden, width] and `act_fn`.
        index: the experts of each token; `experts` and more stand for none.
        weights: what the router gives to each.
    """
    experts = len(base.gate_up_proj)
    choices = Choices.of(index, experts)
    chosen = choices.spread(x)
    gate_up = choices.multiply(chosen, base.gate_up_proj)
    for pair, part in adapters:
        gate_up = choices.add(gate_up, chosen, pair.gate_up.cast(x.dtype), part)
    gate, up = gate_up.chunk(2, dim=-1)
    inner = base.act_fn(gate) * up
    y = choices.multiply(inner, base.down_proj)
    for pair, part in adapters:
        y = choices.add(y, inner, pair.down.cast(x.dtype), part)
    # The router's weights may be float32: the product is rounded once, after them, as in the base experts.
    by_row = torch.where(index < experts, weights, 0).flatten().index_select(0, choices.order)
    return choices.gather((y * by_row[:, None]).to(x.dtype))
