"""A frozen base model on its device, set up to read a learner's rows, and checked to read them right."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lora.base.architecture import UnsupportedModel, attends_only, in_one_line
from lora.base.load import load_base
from lora.base.router_replay import Replay, Routers, routers_of
from lora.config import ModelConfig
from lora.layers.routing import BASE, routing_of
from lora.trainable.inject import wrap_experts
from rl.algorithm.batch.packing import unpack_rows
from rl.learner.collectives import ProcessGroup
from rl.learner.model.compiled_blocks import CompiledBlocks, compile_blocks
from rl.learner.model.packed_attention import use_packed_attention
from rl.learner.model.recompute import recompute_blocks
from rl.learner.model.sharding import shard_blocks
from rl.learner.passes.forward import check_head
from rl.learner.passes.microbatch_threads import changes_itself
from rl.learner.passes.packing_check import check_rows, read_alone
from rl.types import Row


@dataclass(frozen=True, slots=True)
class ReadyBase:
    """The model, and how it may be given rows."""

    model: nn.Module
    packs: bool
    """Whether several completions may share a row; else each is read alone."""
    joined: bool
    """Whether a microbatch's rows stand in one line, as FlexAttention reads them; else each is padded."""
    side_by_side: bool
    """Whether several threads may compute at once."""
    blocks: CompiledBlocks
    routers: Routers | None = None
    """Those of its mixtures; None if it has none, or some that are not known."""

    def readable(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the rows as the model may read them."""
        return rows if self.packs else unpack_rows(rows)

    def choosing(self, replay: Replay | None) -> AbstractContextManager[None]:
        """Send inputs to the experts that a sampler chose, inside the block.

        Raises:
            ValueError: the model has no routers that are known.
        """
        if replay is None:
            return nullcontext()
        return self._known_routers().under(replay)

    def recognise_routers(self) -> None:
        """See how the routers weigh experts, so that they can weigh others than their own.

        Raises:
            ValueError: there are none, or some that weigh experts in a way that is not known.
        """
        routers = self._known_routers()
        with routing_of(self.model).under(BASE):
            routers.recognise(self.model)

    def _known_routers(self) -> Routers:
        return routers_of(self.model) if self.routers is None else self.routers  # the first of these raises


def ready_base(
    model: ModelConfig,
    device: str,
    group: ProcessGroup,
    *,
    gradient_checkpointing: bool,
    compiled: bool,
    mix_policies: bool,
) -> ReadyBase:
    """Load a model, each learner of a group in lockstep its part of it. `compiled` blocks are for a GPU alone.

    Raises:
        ValueError: there is no such model, or it would not be trained on right numbers.
    """
    loaded: Any = load_base(model, "cpu" if group.lockstep else device)
    if group.lockstep:
        wrap_experts(loaded)
        shard_blocks(loaded, device)
    base: nn.Module = loaded.to(device).eval()
    with in_one_line(loaded.config.model_type):
        packs = _prepare(base, device)
    joined = packs and _is_gpu(device)
    # Attention and what is around it keep nothing from one pass to the next; of other layers that is not known.
    side_by_side = device == "cpu" and not group.lockstep and packs and not changes_itself(base)
    if not mix_policies:  # an adapter on the experts would change how those compute that have none
        wrap_experts(base)
    # Weights that are made anew for every product are no part of a compiled block.
    compiles = compiled and joined and not group.lockstep and model.quantization is None
    blocks = compile_blocks(base) if compiles else CompiledBlocks()
    if gradient_checkpointing:
        recompute_blocks(base)
    return ReadyBase(base, packs, joined, side_by_side, blocks, _routers(base))


def _routers(base: nn.Module) -> Routers | None:
    with suppress(UnsupportedModel):
        return routers_of(base)
    return None


def _is_gpu(device: str) -> bool:
    """True for a GPU of torch's."""
    return torch.device(device).type == "cuda"


def _prepare(base: nn.Module, device: str) -> bool:
    """Let the model attend over packed rows, if it attends only, and check what it makes of rows."""
    packs = attends_only(base)
    alone = read_alone(base, device)
    if packs:
        use_packed_attention(base)
    check_head(base)
    check_rows(base, alone, device, packed=packs, joined=packs and _is_gpu(device))
    return packs
