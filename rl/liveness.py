"""The check that every engine samples from the policy it was given.

Public projects have trained for weeks while their rollouts silently came from the base model or from an older adapter.
Here each engine scores a few fixed sequences: its logprobs must match the learner's, and once the adapter does
something, they must be nearer to the policy's than to the base's.
"""

from collections.abc import Sequence
from statistics import fmean

from lora.types import Adapter
from rl.types import Learner
from rollout.types import Engine


class StalePolicyError(RuntimeError):
    """An engine does not sample from the published policy. Going on would train on the wrong data."""


async def check_liveness(
    learner: Learner, engine: Engine, adapter: Adapter, sequences: Sequence[Sequence[int]], tolerance: float
) -> dict[str, float]:
    """Score `sequences` with the learner and every replica of the engine.

    Returns the largest mean absolute difference in nats, and how far the policy has moved from the base.

    Raises:
        StalePolicyError: a replica differs from the learner by more than `tolerance`, or is nearer to the base.
    """
    policy = await learner.score(sequences)
    base = await learner.score(sequences, base=True)
    moved = _distance(policy, base)
    worst = 0.0
    for index, replica in enumerate(engine.replicas()):
        sampled = await replica.score(sequences, adapter)
        from_policy, from_base = _distance(sampled, policy), _distance(sampled, base)
        worst = max(worst, from_policy)
        # Rounding alone separates an engine from the learner; a move smaller than that cannot be told apart.
        serves_base = moved > tolerance and from_base < from_policy
        if serves_base or from_policy > max(tolerance, moved / 2):
            what = "the base model" if serves_base else "another policy"
            raise StalePolicyError(
                f"rollout worker {index} samples from {what}, not from version {adapter.version}: its logprobs differ "
                f"by {from_policy:.4f} nats from the learner's and by {from_base:.4f} from the base model's"
            )
    return {"policy/sampler_difference": worst, "policy/distance_from_base": moved}


def _distance(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float:
    """Mean absolute difference of logprobs, in nats a token."""
    pairs = [(a, b) for row, twin in zip(one, other, strict=True) for a, b in zip(row, twin, strict=True)]
    return fmean(abs(a - b) for a, b in pairs)
