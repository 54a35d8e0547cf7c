"""A model's blocks, compiled: their many small operations become few, each one pass over memory.

Norms, rotations, activations and the adapters' additions move more bytes than they compute numbers: on a GPU they take
as long as all of a block's products, and a small model's launches take longer than its work. All blocks of a kind share
one compiled graph, for rows of all lengths and adapters of one rank. A batch that several adapters divide goes through
the blocks as they are.
"""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException as CannotCompile

from lora.experts import is_experts
from lora.layer import LoraLinear
from lora.messages import first_line
from lora.routing import Routing, routing_of
from rl.learner.recompute import blocks_of

log = logging.getLogger(__name__)

MOST_GRAPHS = 64
"""Of a kind of block: one for each rank, with and without gradients, and of each form that its masks have."""


def compile_blocks(model: nn.Module, backend: str = "inductor") -> None:
    """Compile the blocks in place, but for those with experts, whose tokens choose their own way."""
    routing = routing_of(model)
    compiled: dict[type, Callable[..., Any]] = {}
    for block in blocks_of(model):
        if any(is_experts(module) for module in block.modules()):
            continue
        kind = type(block)
        if kind not in compiled:
            compiled[kind] = torch.compile(kind.forward, dynamic=True, backend=backend)
        block.forward = _compiled(block, compiled[kind], routing)


def _compiled(block: nn.Module, compiled: Callable[..., Any], routing: Routing) -> Callable[..., Any]:
    plain = block.forward
    failed = False

    @wraps(plain)
    def forward(*arguments: Any, **named: Any) -> Any:
        nonlocal failed
        slot = routing.only_slot
        if slot is None or failed:
            return plain(*arguments, **named)
        for module in block.modules():
            if isinstance(module, LoraLinear):
                module.choose(slot)
        try:
            # Here, not once for all: torch keeps such settings for each thread, and a backward pass has its own.
            with torch._dynamo.config.patch(recompile_limit=MOST_GRAPHS):  # pyright: ignore[reportPrivateUsage]
                return compiled(block, *arguments, **named)
        except CannotCompile as error:
            failed = True
            log.warning(
                "a block cannot be compiled, and is computed as it is (learner.compile = false tries no more): %s",
                first_line(error),
            )
            return plain(*arguments, **named)

    return forward
