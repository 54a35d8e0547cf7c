"""Adapters on the experts of a mixture-of-experts layer: every expert has an A and a B of its own.

`transformers` keeps a layer's experts as two stacked weights, `gate_up_proj` [experts, 2 width, hidden] and `down_proj`
[experts, hidden, width]. Each expert's adapter has rank r / active experts, so that a token meets as many trained
numbers in its experts as it would in a dense layer; alpha is the same at that rank as at any other, so the product is
scaled by alpha / (that rank) ("LoRA Without Regret", 2025). Tensors are laid out, and named, as PEFT's
`target_parameters` has them: `experts.base_layer` is gate_up_proj, `experts` is down_proj.
"""

import json
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lora.layers.grouped_experts import apply_grouped, multiplies_groups
from lora.layers.linear import fresh_A, keeps_rounding, scaled
from lora.layers.routing import Routing

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
"""The names that `lora.targets` has for what experts do; gate and up are one stacked weight."""
EXPERT_LAYERS = ("base_layer", "experts")
"""The last parts of their adapters' names: of gate and up, and of down."""


def is_experts(module: nn.Module) -> bool:
    """Return True if the module is a layer's experts as stacked weights."""
    weights = [getattr(module, name, None) for name in ("gate_up_proj", "down_proj")]
    return all(isinstance(weight, nn.Parameter) and weight.dim() == 3 for weight in weights)


def active_experts(config: Any) -> int:
    """Return how many experts a token goes through.

    Raises:
        ValueError: the model's configuration does not say so.
    """
    text = config.get_text_config()
    for name in ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "top_k_experts"):
        if isinstance(count := getattr(text, name, None), int):
            return count
    raise ValueError(f"models of type {text.model_type!r} do not say how many experts a token goes through")


def expert_rank(rank: int, active: int) -> int:
    """Return the rank of each expert's adapter, at least 1."""
    return max(1, rank // active)


class ExpertsLowRank(nn.Module):
    """One adapter's part in one stacked weight. Master weights are float32; a fresh one changes nothing."""

    def __init__(
        self,
        weight: Float[Tensor, "experts d_out d_in"],
        rank: int,
        alpha: float,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.experts, d_out, d_in = weight.shape
        self.scale = alpha / rank
        self.exact = keeps_rounding(self.scale)
        self.lora_A = nn.Parameter(fresh_A(self.experts * rank, d_in, weight.device, generator))
        """[experts * rank, d_in]: one expert's rows after another's."""
        self.lora_B = nn.Parameter(torch.zeros(d_out, rank * self.experts, device=weight.device))
        """[d_out, rank * experts]: all experts' columns of the first rank, then of the second, as in PEFT."""

    def cast(
        self, dtype: torch.dtype
    ) -> tuple[Float[Tensor, "experts rank d_in"], Float[Tensor, "experts d_out rank"]]:
        """Return each expert's A, and B with the scale in it, as they multiply activations of that type."""
        A = self.lora_A.unflatten(0, (self.experts, -1))
        B = self.lora_B.unflatten(1, (-1, self.experts)).permute(2, 0, 1)
        return A.to(dtype), scaled(B, self.scale, dtype, exact=self.exact)

    def product(self) -> Float[Tensor, "experts d_out d_in"]:
        """Return what is added to the weight: scale B A of each expert, in float32."""
        A, B = self.cast(torch.float32)
        return B @ A


class ExpertsPair(nn.Module):
    """One adapter's part in one layer's experts."""

    def __init__(self, gate_up: ExpertsLowRank, down: ExpertsLowRank) -> None:
        super().__init__()
        self.gate_up = gate_up
        self.down = down


class LoraExperts(nn.Module):
    """Wraps a layer's experts in place, with a slot for every adapter on them."""

    def __init__(self, base: nn.Module, routing: Routing) -> None:
        """Raises ValueError if these experts do not compute as `_apply_experts` does."""
        super().__init__()
        self.base_layer: Any = base.requires_grad_(False)
        self.slots = nn.ModuleDict()
        self.routing = routing
        self._check()

    def new_slot(self, slot: int, rank: int, alpha: float, generator: torch.Generator) -> ExpertsPair:
        """Put a fresh adapter there."""
        base = self.base_layer
        pair = ExpertsPair(*(ExpertsLowRank(w, rank, alpha, generator) for w in (base.gate_up_proj, base.down_proj)))
        self.slots[str(slot)] = pair
        return pair

    def merged(self, slot: int) -> nn.Module:
        """Return the base experts, with an adapter's product added to their weights in place."""
        pair = cast(ExpertsPair, self.slots[str(slot)])
        with torch.no_grad():
            self.base_layer.gate_up_proj += pair.gate_up.product()
            self.base_layer.down_proj += pair.down.product()
        return self.base_layer

    def forward(
        self,
        hidden_states: Float[Tensor, "tokens hidden"],
        top_k_index: Int[Tensor, "tokens active"],
        top_k_weights: Float[Tensor, "tokens active"],
    ) -> Float[Tensor, "tokens hidden"]:
        used = self.routing.used(self.slots, len(hidden_states))
        if multiplies_groups(self.base_layer.gate_up_proj):
            return apply_grouped(self.base_layer, hidden_states, top_k_index, top_k_weights, used)
        if not used:
            return self.base_layer(hidden_states, top_k_index, top_k_weights)
        adapters = [_Adapter(pair, part, hidden_states) for pair, part in used]
        return self._apply_experts(hidden_states, top_k_index, top_k_weights, adapters)

    def _apply_experts(
        self,
        x: Float[Tensor, "tokens hidden"],
        index: Int[Tensor, "tokens active"],
        weights: Float[Tensor, "tokens active"],
        adapters: list["_Adapter"],
    ) -> Float[Tensor, "tokens hidden"]:
        """One expert after another, each on the tokens that chose it; the order is that of transformers."""
        out = torch.zeros_like(x)
        for expert in index.unique().tolist():
            if expert >= len(self.base_layer.gate_up_proj):  # transformers' mark for "no expert": the token is skipped
                continue
            # Transposed, as transformers has it: rows come by choice, then by token, and sums are in the same order.
            choice, tokens = torch.where(expert == index.T)
            chosen = x[tokens]
            gate_up = nn.functional.linear(chosen, self.base_layer.gate_up_proj[expert])
            for adapter in adapters:
                gate_up = adapter.gate_up(gate_up, chosen, tokens, expert)
            gate, up = gate_up.chunk(2, dim=-1)
            inner = self.base_layer.act_fn(gate) * up
            y = nn.functional.linear(inner, self.base_layer.down_proj[expert])
            for adapter in adapters:
                y = adapter.down(y, inner, tokens, expert)
            # The router's weights may be float32: the product is rounded once, after them, as in the base experts.
            out.index_add_(0, tokens, (y * weights[tokens, choice, None]).to(out.dtype))
        return out

    @torch.no_grad()
    def _check(self) -> None:
        """Compare `_apply_experts` with the base experts on random tokens.

        A family may clamp, bias or interleave its experts; an adapter in the wrong place there would train, and be
        served as something else.

        Raises:
            ValueError: they differ.
        """
        weight: Tensor = self.base_layer.gate_up_proj
        if weight.device.type == "meta":
            return
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(4, self.base_layer.down_proj.shape[1], generator=generator).to(weight)
        index = torch.tensor([[0, 1], [1, 0], [0, 1], [1, 0]], device=weight.device)[:, : min(2, len(weight))]
        router_weights = torch.full(index.shape, 0.5, dtype=weight.dtype, device=weight.device)
        try:
            expected = self.base_layer(x, index, router_weights)
            actual = self._apply_experts(x, index, router_weights, [])
            same = torch.allclose(expected, actual, rtol=2e-2, atol=1e-3)  # wide enough for bfloat16's rounding
        except (AttributeError, RuntimeError, TypeError):
            same = False
        if not same:
            raise ValueError(
                f"{type(self.base_layer).__name__} computes in a way that is not known, so these experts cannot be "
                f"adapted; set lora.exclude = {json.dumps(PROJECTIONS)}"
            )


class _Adapter:
    """An adapter while a batch runs: its matrices in the activations' type, and the tokens that use it."""

    def __init__(self, pair: ExpertsPair, tokens: slice | None, like: Tensor) -> None:
        self._gate_up = pair.gate_up.cast(like.dtype)
        self._down = pair.down.cast(like.dtype)
        self._tokens = tokens

    def gate_up(self, y: Tensor, x: Tensor, tokens: Tensor, expert: int) -> Tensor:
        """Add this adapter's part to y, the product of the expert's tokens with gate_up_proj."""
        return self._added(y, x, tokens, self._gate_up[0][expert], self._gate_up[1][expert])

    def down(self, y: Tensor, x: Tensor, tokens: Tensor, expert: int) -> Tensor:
        """Add this adapter's part to y, the product of the expert's inner values with down_proj."""
        return self._added(y, x, tokens, self._down[0][expert], self._down[1][expert])

    def _added(
        self,
        y: Float[Tensor, "chosen d_out"],
        x: Float[Tensor, "chosen d_in"],
        tokens: Int[Tensor, " chosen"],
        A: Float[Tensor, "rank d_in"],
        B: Float[Tensor, "d_out rank"],
    ) -> Float[Tensor, "chosen d_out"]:
        if self._tokens is None:
            return y + nn.functional.linear(nn.functional.linear(x, A), B)
        # `tokens` are this expert's; those of them in the adapter's part of the batch are the rows to add to.
        rows = torch.where((tokens >= self._tokens.start) & (tokens < self._tokens.stop))[0]
        return y.index_add(0, rows, nn.functional.linear(nn.functional.linear(x[rows], A), B))
