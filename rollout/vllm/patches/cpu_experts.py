"""Experts with adapters for vLLM on a CPU, where it has none: with LoRA it takes its Triton kernels on any platform.

vLLM asks `select_unquantized_moe_backend` for the experts' kernels. Here the answer on a CPU is `LoraExpertsCPU`: one
expert after another on the tokens that chose it, as the learner computes them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from vllm.model_executor.layers.fused_moe import unquantized_fused_moe_method as method
from vllm.model_executor.layers.fused_moe.activation import MoEActivation
from vllm.model_executor.layers.fused_moe.experts.cpu_moe import CPUUnquantizedExperts
from vllm.model_executor.layers.fused_moe.experts.lora_experts_mixin import LoRAExpertsMixin
from vllm.model_executor.layers.fused_moe.oracle.unquantized import UnquantizedMoeBackend

ACTIVATIONS: dict[MoEActivation, Callable[[Tensor], Tensor]] = {
    MoEActivation.SILU: nn.functional.silu,
    MoEActivation.GELU: nn.functional.gelu,
    MoEActivation.GELU_TANH: partial(nn.functional.gelu, approximate="tanh"),
}


def install() -> None:
    """Make vLLM use `LoraExpertsCPU` in this process."""
    asker: Any = method  # it has imported the function by name, so that is where the name must be replaced
    chosen = asker.select_unquantized_moe_backend

    def choose(moe_config: Any) -> Any:
        return (UnquantizedMoeBackend.CPU, LoraExpertsCPU) if moe_config.is_lora_enabled else chosen(moe_config)

    asker.select_unquantized_moe_backend = choose


class LoraExpertsCPU(LoRAExpertsMixin, CPUUnquantizedExperts):
    """Gate, up and down of each expert, each with the adapters of the tokens that are there."""

    def process_weights_after_loading(self, layer: nn.Module) -> None:
        """Leave the weights as they were loaded: they are multiplied one by one."""

    def apply(
        self,
        output: Tensor,
        hidden_states: Tensor,
        w1: Tensor,
        w2: Tensor,
        topk_weights: Tensor,
        topk_ids: Tensor,
        activation: MoEActivation,
        global_num_experts: int,
        expert_map: Tensor | None,
        a1q_scale: Tensor | None,
        a2_scale: Tensor | None,
        workspace13: Tensor,
        workspace2: Tensor,
        expert_tokens_meta: Any,
        apply_router_weight_on_input: bool,
    ) -> None:
        """Fill `output` [tokens, hidden] from `w1` [experts, 2 width, hidden] and `w2` [experts, hidden, width]."""
        assert expert_map is None, "one process holds all experts"
        slots = self._slots(len(hidden_states), hidden_states.device)
        output.zero_()  # vLLM hands over memory as it is, and below each expert adds its part
        for expert in topk_ids.unique().tolist():
            tokens, choice = torch.where(topk_ids == expert)
            chosen_slots, x = slots[tokens], hidden_states[tokens]
            gate_up = nn.functional.linear(x, w1[expert], _of(self.w1_bias, expert))
            if activation is MoEActivation.SWIGLUOAI:  # the learner adapts no experts that compute so
                inner = _gpt_oss(gate_up)
                y = nn.functional.linear(inner, w2[expert], _of(self.w2_bias, expert))
            else:
                gate, up = gate_up.chunk(2, dim=-1)
                # Gate and up are one weight of the base, and have adapters of their own: parts 0 and 1 of "w13".
                gate = self._adapted(gate, x, chosen_slots, expert, "w13", 0)
                up = self._adapted(up, x, chosen_slots, expert, "w13", 1)
                inner = ACTIVATIONS[activation](gate) * up
                y = nn.functional.linear(inner, w2[expert], _of(self.w2_bias, expert))
                y = self._adapted(y, inner, chosen_slots, expert, "w2", 0)
            if not apply_router_weight_on_input:  # else vLLM has multiplied the input with it already
                y = y * topk_weights[tokens, choice, None].to(y.dtype)
            output.index_add_(0, tokens, y.to(output.dtype))

    def _slots(self, count: int, device: torch.device) -> Int[Tensor, " tokens"]:
        """Return each token's adapter; -1 is the base model alone, as for tokens that pad the batch."""
        slots = torch.full((count,), -1, device=device)
        if self._lora_context is not None:
            indices = self._lora_context.punica_wrapper.token_lora_indices[:count]
            slots[: len(indices)] = indices
        return slots

    def _adapted(
        self,
        y: Float[Tensor, "tokens d_out"],
        x: Float[Tensor, "tokens d_in"],
        slots: Int[Tensor, " tokens"],
        expert: int,
        weight: str,
        part: int,
    ) -> Float[Tensor, "tokens d_out"]:
        """Add each token's own adapter of this expert; with a loop, because a batch has few adapters."""
        for slot in slots.unique().tolist():
            if slot < 0:
                continue
            A = getattr(self._lora_context, f"{weight}_lora_a_stacked")[part][slot, expert]
            B = getattr(self._lora_context, f"{weight}_lora_b_stacked")[part][slot, expert]
            rows = torch.where(slots == slot)[0]
            y = y.index_add(0, rows, nn.functional.linear(nn.functional.linear(x[rows], A), B))
        return y


def _of(biases: Float[Tensor, "experts d_out"] | None, expert: int) -> Float[Tensor, " d_out"] | None:
    return None if biases is None else biases[expert]


def _gpt_oss(gate_up: Float[Tensor, "tokens twice_width"]) -> Float[Tensor, "tokens width"]:
    """Return GPT-OSS's own SwiGLU, with the constants that vLLM has for it; gate and up take turns in a row."""
    gate, up = gate_up[:, ::2].clamp(max=7.0), gate_up[:, 1::2].clamp(-7.0, 7.0)
    return (up + 1) * gate * torch.sigmoid(1.702 * gate)
