"""The check that every engine samples from the policy it was given.

Public projects have trained for weeks while their rollouts silently came from the base model or from an older adapter.
Here each engine scores a few fixed sequences. Its logprobs must be near the learner's, and they must have moved away
from the base model's as far as the learner's have: the slope of one move on the other is 1 for the right policy, 0 for
the base model, 2 for an adapter that is applied at twice its scale. Two correct engines in bfloat16 differ by some
hundredths of a nat a token, so the slope is judged once the policy has moved far enough for it to be told from noise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Self

from lora.types import Adapter
from rl.types import Learner
from rollout.types import Engine

CERTAIN = 0.15
"""Standard error below which the slope is judged."""


class StalePolicyError(RuntimeError):
    """An engine does not sample from the published policy. Going on would train on the wrong data."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How an engine's logprobs compare with the learner's."""

    difference: float
    """Mean absolute difference from the learner's, in nats a token."""
    slope: float
    """How much of the policy's move away from the base model the engine shows."""
    standard_error: float
    """Of the slope; infinite while the policy is the base model."""

    @classmethod
    def measure(cls, sampled: Sequence[float], policy: Sequence[float], base: Sequence[float]) -> Self:
        """From the logprobs of the same tokens under the engine, the learner's policy and the learner's base model."""
        difference = fmean(abs(s - p) for s, p in zip(sampled, policy, strict=True))
        moves = [p - b for p, b in zip(policy, base, strict=True)]
        size = math.fsum(m * m for m in moves)
        if size == 0:
            return cls(difference, 1.0, math.inf)
        slope = math.fsum(m * (s - b) for m, s, b in zip(moves, sampled, base, strict=True)) / size
        residual = math.fsum((s - b - slope * m) ** 2 for m, s, b in zip(moves, sampled, base, strict=True))
        return cls(difference, slope, math.sqrt(residual / len(moves) / size))

    def fault(self, tolerance: float) -> str | None:
        """What is wrong, if anything is."""
        if self.standard_error < CERTAIN and self.slope < 0.5:
            return "from the base model or an older policy"
        if self.standard_error < CERTAIN and self.slope > 1.5:
            return "from the adapter at a wrong scale"
        if not self.difference <= tolerance:
            return "from another model"
        return None


async def check_liveness(
    learner: Learner, engine: Engine, adapter: Adapter, sequences: Sequence[Sequence[int]], tolerance: float
) -> dict[str, float]:
    """Score `sequences` with the learner and every replica of the engine; returns the worst replica's figures.

    Raises:
        StalePolicyError: a replica does not sample from `adapter`.
    """
    policy = _flat(await learner.score(sequences))
    base = _flat(await learner.score(sequences, base=True))
    seen: list[Agreement] = []
    for index, replica in enumerate(engine.replicas()):
        seen.append(Agreement.measure(_flat(await replica.score(sequences, adapter)), policy, base))
        if fault := seen[-1].fault(tolerance):
            raise StalePolicyError(
                f"rollout worker {index} samples {fault}, not from version {adapter.version}: its logprobs differ by "
                f"{seen[-1].difference:.3f} nats a token from the learner's (at most {tolerance:g} is rounding), and "
                f"show {seen[-1].slope:.2f} of the policy's move away from the base model"
            )
    worst = max(seen, key=lambda agreement: agreement.difference)
    moved = fmean(abs(p - b) for p, b in zip(policy, base, strict=True))
    return {
        "policy/sampler_difference": worst.difference,
        "policy/sampler_slope": worst.slope,
        "policy/distance_from_base": moved,
    }


def _flat(scores: Sequence[Sequence[float]]) -> list[float]:
    return [score for row in scores for score in row]
