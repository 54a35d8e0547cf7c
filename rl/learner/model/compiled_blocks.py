"""A model's blocks, compiled: their many small operations become few, each one pass over memory.

Norms, rotations, activations and the adapters' additions move more bytes than they compute numbers: on a GPU they take
as long as all of a block's products, and a small model's launches take longer than its work. All blocks of a kind share
one compiled graph, for rows of all lengths and adapters of one rank. A batch that several adapters divide goes through
the blocks as they are.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException as CannotCompile

from lora.layers.experts import is_experts
from lora.layers.linear import LoraLinear
from lora.layers.routing import Routing, routing_of
from lora.messages import first_line
from rl.learner.model.recompute import blocks_of

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_GRAPHS = 64
"""Of a kind of block: one for each rank, with and without gradients, and of each form that its masks have."""


@dataclass(slots=True)
class CompiledBlocks:
    """A model's blocks, which may be compiled, until a backward pass of theirs cannot be."""

    given_up: bool = False
    """True once all blocks compute as they are."""

    def or_plain(self, compute: Callable[[], T]) -> T:
        """Return what a forward and a backward pass compute.

        A backward pass with lengths of its own may be compiled when it runs, long after its forward pass has begun: if
        that fails, both are computed again by the blocks as they are.
        """
        try:
            return compute()
        except CannotCompile as error:
            if self.given_up:
                raise
            self.given_up = True
            log.warning(
                "the blocks' backward pass cannot be compiled, and they are computed as they are (learner.compile = "
                "false tries no more): %s",
                first_line(error),
            )
        return compute()


def compile_blocks(model: nn.Module, backend: str = "inductor") -> CompiledBlocks:
    """Compile the blocks in place, but for those with experts, whose tokens choose their own way."""
    blocks = CompiledBlocks()
    routing = routing_of(model)
    compiled: dict[type, Callable[..., Any]] = {}
    for block in blocks_of(model):
        if any(is_experts(module) for module in block.modules()):
            continue
        kind = type(block)
        if kind not in compiled:
            compiled[kind] = torch.compile(kind.forward, dynamic=True, backend=backend)
        block.forward = _compiled(block, compiled[kind], routing, blocks)
    return blocks


def _compiled(
    block: nn.Module, compiled: Callable[..., Any], routing: Routing, blocks: CompiledBlocks
) -> Callable[..., Any]:
    plain = block.forward
    failed = False

    @wraps(plain)
    def forward(*arguments: Any, **named: Any) -> Any:
        nonlocal failed
        slot = routing.only_slot
        if slot is None or failed or blocks.given_up:
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
