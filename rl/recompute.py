"""Activations that are computed again in the backward pass instead of being kept: the only place that does it.

A backward pass runs when the blocks that said which adapter computes have ended, so what is computed again goes by the
route that it went by at first.
"""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from lora.routing import routing_of


def recomputed(model: nn.Module, function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)`, a part of what `model` computes, of which only the arguments are kept."""
    return checkpoint(function, *arguments, use_reentrant=False, context_fn=routing_of(model).recomputed)


def recompute_blocks(model: nn.Module) -> None:
    """Keep only the inputs of each of the model's blocks. Raises ValueError if it has none that are known."""
    causal_lm: Any = model
    causal_lm.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": routing_of(model).recomputed})
    model.train()
