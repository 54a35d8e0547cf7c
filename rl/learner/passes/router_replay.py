"""The experts that samplers chose, in a learner's passes: computed with, or only compared with its own routers'."""

from collections.abc import Mapping, Sequence

import torch

from lora.base.router_replay import Replay
from rl.learner.passes.microbatch import Microbatch
from rl.learner.passes.policy_loss import REROUTED, ROUTED, PolicyBatch


def replay_of(together: Sequence[PolicyBatch], microbatch: Microbatch) -> Replay | None:
    """Return the choice of a microbatch's experts; None where no sampler returned any.

    Inputs of policies without `learner.router_replay` go where the learner's own routers send them, and are compared.
    """
    if microbatch.routed_experts is None:
        return None
    sampled = microbatch.routed_experts.flatten(0, 1)
    replaying = [s for s in microbatch.segments if together[s.policy_index].policy.spec.learner.router_replay]
    if not replaying:
        return Replay(sampled, None)
    replayed = torch.zeros(len(sampled), dtype=torch.bool, device=sampled.device)
    for segment in replaying:
        replayed[segment.inputs] = True
    return Replay(sampled, replayed)


def routing_sums(replay: Replay | None, inputs: slice) -> Mapping[str, float]:
    """Return a policy's sums over its inputs and the blocks that they were routed in, by the names of `Totals`."""
    if replay is None or replay.differing is None:
        return {}
    parts = torch.stack([replay.is_sampled[inputs].sum() * replay.num_blocks, replay.differing[inputs].sum()])
    routed, rerouted = parts.tolist()
    return {ROUTED: routed, REROUTED: rerouted}
