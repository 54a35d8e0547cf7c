"""The linear layers of a model that may be adapted, by their names."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from lora.base.architecture import is_linear, reads_text
from lora.layers.experts import PROJECTIONS, is_experts

ROUTERS = frozenset({"router", "gate", "wg", "classifier", "shared_expert_gate"})
"""Modules that choose or weigh experts. With an adapter there, tokens would go to other experts as training goes on."""
NOT_MEANT = frozenset({"lm_head", "dt_proj"})
"""The output layer, which has a setting of its own, and layers whose weight a family's code takes without calling them,
so that an adapter would do nothing."""
NOT_MEANT_IN: dict[str, frozenset[str]] = {
    **dict.fromkeys(("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"), frozenset({"out_proj"})),
    "rwkv": frozenset({"output", "value"}),
}
"""The same by type of model: fused kernels take `out_proj`, where PEFT loads no adapter; RWKV divides two weights."""


def all_linear(model: nn.Module) -> tuple[str, ...]:
    """Return the names that "all-linear" stands for, in the model's order; the model may be on the meta device.

    A name is left out where any layer of it must not be adapted, because targets are matched by name alone; and so is a
    number, which PEFT takes for a block's.
    """
    causal_lm: Any = model
    output = causal_lm.get_output_embeddings()
    linears = dict(_text_linears(model))
    left_out = {_leaf(name) for name, module in linears.items() if module is output or not _is_adaptable(name, module)}
    left_out |= NOT_MEANT_IN.get(causal_lm.config.model_type, frozenset())
    names = dict.fromkeys(map(_leaf, linears))
    if any(is_experts(module) for module in reads_text(model)):
        names |= dict.fromkeys(PROJECTIONS)
    return tuple(name for name in names if name not in left_out and not name.isdecimal())


def _text_linears(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Yield the linear layers that text goes through, and those that only look linear, by their whole names."""
    text_modules = reads_text(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module in text_modules:
            yield name, module


def _is_adaptable(name: str, module: nn.Module) -> bool:
    return is_linear(module) and ROUTERS.isdisjoint(name.split(".")) and _leaf(name) not in NOT_MEANT


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]
