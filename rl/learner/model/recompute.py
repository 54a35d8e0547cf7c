"""Activations that are computed again in the backward pass instead of being kept: the only place that does it.

A backward pass runs when the blocks that said which adapter computes, and which experts, have ended, so what is
computed again goes by the route that it went by at first, to the experts that it went to.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial, wraps
from typing import Any, cast

from torch import nn
from torch.utils.checkpoint import checkpoint

from lora.base.router_replay import routers_on
from lora.layers.routing import routing_of


def recomputed(model: nn.Module, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """`function(*arguments, **named)`, a part of what `model` computes, of which only the arguments are kept."""
    return checkpoint(partial(function, **named), *arguments, use_reentrant=False, context_fn=partial(_contexts, model))


def _contexts(model: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[Any]]:
    """Return the blocks in which a part is computed at first, and again."""
    first, again = routing_of(model).recomputed()
    routers = routers_on(model)
    return first, again if routers is None else _Both(again, routers.again())


class _Both(AbstractContextManager[None]):
    """Two blocks, that may be entered again as often as a part is computed."""

    def __init__(self, *blocks: AbstractContextManager[None]) -> None:
        self._blocks = blocks
        self._entered: list[ExitStack] = []

    def __enter__(self) -> None:
        with ExitStack() as stack:
            for block in self._blocks:
                stack.enter_context(block)
            self._entered.append(stack.pop_all())

    def __exit__(self, *_: object) -> None:
        self._entered.pop().close()


def recompute_blocks(model: nn.Module) -> None:
    """Keep only the inputs of each of the model's blocks.

    transformers' own switch works in training mode alone, which also turns on dropout and a router's noise, and those
    of its attributes and functions that read it. Here the model stays in evaluation mode.

    Raises:
        ValueError: the model has no such blocks.
    """
    blocks = blocks_of(model)
    if not blocks:
        kind = cast(Any, model).config.model_type
        raise ValueError(
            f"models of type {kind!r} have no blocks that can be computed again; set "
            "learner.gradient_checkpointing = false"
        )
    for block in blocks:
        block.forward = _recomputing(model, block.forward)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """Return the model's blocks, those that transformers would checkpoint; none if it does not say which they are."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    decoder = cast(Any, model).get_decoder()
    return [module for module in decoder.modules() if isinstance(module, GradientCheckpointingLayer)]


def _recomputing(model: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(forward)
    def again(*arguments: Any, **named: Any) -> Any:
        return recomputed(model, forward, *arguments, **named)

    return again
