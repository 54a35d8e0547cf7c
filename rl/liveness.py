"""The check that every engine samples from the policy it was given.

Public projects have trained for weeks while their rollouts silently came from the base model or from an older adapter.
Here each engine scores a few sequences. Its logprobs must be near the learner's, and they must have moved as far as the
learner's have: away from the base model, and away from the policy before this one. The slope of one move on the other
is 1 for the right policy, 0 for the one that was moved away from, 2 for an adapter that is applied at twice its scale.
Two correct engines in bfloat16 differ by some hundredths of a nat a token, so a slope is judged once the policy has
moved far enough for it to be told from noise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Self

from lora.types import Adapter
from rl.types import Learner
from rollout.types import Engine, EngineDied

CERTAIN = 0.1
"""Standard error below which a slope is judged."""

NUM_SEQUENCES = 8
LONGEST = 512
"""Tokens of a sequence that are scored: an engine holds the whole vocabulary's logits for all of them at once."""


class StalePolicyError(RuntimeError):
    """An engine does not sample from the published policy. Going on would train on the wrong data."""


@dataclass(frozen=True, slots=True)
class Slope:
    """How much of a move an engine shows, by least squares."""

    value: float
    standard_error: float
    """Infinite where there was no move."""

    @classmethod
    def fit(cls, seen: Sequence[float], move: Sequence[float]) -> Self:
        """The least-squares slope through the origin of `seen` on `move`."""
        size = math.fsum(m * m for m in move)
        if size == 0:
            return cls(1.0, math.inf)
        slope = math.fsum(m * s for m, s in zip(move, seen, strict=True)) / size
        residual = math.fsum((s - slope * m) ** 2 for m, s in zip(move, seen, strict=True))
        return cls(slope, math.sqrt(residual / len(move) / size))

    @property
    def certain(self) -> bool:
        """Whether it can be told from noise."""
        return self.standard_error < CERTAIN


@dataclass(frozen=True, slots=True)
class Agreement:
    """How an engine's logprobs compare with the learner's."""

    difference: float
    """Mean absolute difference from the learner's, in nats a token."""
    from_base: Slope
    """Of the policy's move away from the base model."""
    from_previous: Slope
    """Of the policy's move away from the one before it."""

    @classmethod
    def measure(
        cls,
        sampled: Sequence[float],
        policy: Sequence[float],
        base: Sequence[float],
        previous: Sequence[float] | None = None,
    ) -> Self:
        """From the logprobs of the same tokens under the engine, and under the learner's three models."""

        def slope(origin: Sequence[float]) -> Slope:
            return Slope.fit(_minus(sampled, origin), _minus(policy, origin))

        difference = fmean(map(abs, _minus(sampled, policy)))
        return cls(difference, slope(base), slope(policy if previous is None else previous))

    def fault(self, tolerance: float) -> str | None:
        """What is wrong, if anything is."""
        if self.from_base.certain and self.from_base.value < 0.2:
            return "from the base model"
        if self.from_base.certain and self.from_base.value < 0.5:
            return "from a much older policy, or from the adapter at a wrong scale"
        if self.from_base.certain and self.from_base.value > 1.5:
            return "from the adapter at a wrong scale"
        if self.from_previous.certain and self.from_previous.value < 0.5:
            return "from the policy before it"
        if not self.difference <= tolerance:
            return "from another model"
        return None


@dataclass(frozen=True, slots=True)
class Reference:
    """What a right engine would say: the learner's logprobs of some sequences, under one adapter and its origins."""

    adapter: Adapter
    sequences: list[list[int]]
    policy: list[float]
    base: list[float]
    previous: list[float] | None

    @classmethod
    async def measure(
        cls, learner: Learner, adapter: Adapter, previous: Adapter | None, sequences: Sequence[Sequence[int]]
    ) -> Self:
        """Score with the learner. Any tokens tell policies apart; those that were trained on tell them apart best."""
        cut = [list(sequence[:LONGEST]) for sequence in sequences[:NUM_SEQUENCES]]
        return cls(
            adapter,
            cut,
            distinct(cut, await learner.score(cut, under=adapter)),
            distinct(cut, await learner.score(cut, under="base")),
            distinct(cut, await learner.score(cut, under=previous)) if previous is not None else None,
        )

    async def compare(self, engine: Engine) -> Agreement:
        """How one engine agrees with this."""
        sampled = distinct(self.sequences, await engine.score(self.sequences, self.adapter))
        return Agreement.measure(sampled, self.policy, self.base, self.previous)


@dataclass(slots=True)
class Gate:
    """What a restarted worker must show before it serves: the policy that was checked last."""

    tolerance: float = 0.3
    reference: Reference | None = None

    async def admit(self, engine: Engine) -> None:
        """Raises StalePolicyError if the engine does not serve what it is given."""
        if self.reference is not None:
            _refuse(await self.reference.compare(engine), self.reference, self.tolerance, "a restarted rollout worker")


async def check_liveness(reference: Reference, engine: Engine, tolerance: float) -> dict[str, float]:
    """Compare every replica of the engine with the reference; returns the worst one's figures.

    A replica that dies meanwhile cannot mislead anyone, and is left to its pool.

    Raises:
        StalePolicyError: a replica does not sample from the reference's adapter.
    """
    seen: list[Agreement] = []
    for index, replica in enumerate(engine.replicas()):
        try:
            seen.append(await reference.compare(replica))
        except EngineDied:
            continue
        _refuse(seen[-1], reference, tolerance, f"rollout worker {index}")
    if not seen:
        return {}
    worst = max(seen, key=lambda agreement: agreement.difference)
    return {
        "policy/sampler_difference": worst.difference,
        "policy/sampler_slope": worst.from_base.value,
        "policy/distance_from_base": fmean(map(abs, _minus(reference.policy, reference.base))),
    }


def distinct(sequences: Sequence[Sequence[int]], scores: Sequence[Sequence[float]]) -> list[float]:
    """The scores of tokens that no earlier sequence has after the same beginning.

    What sequences share is one observation, however often it is seen; counting it as several would make noise look
    certain.
    """
    seen: set[tuple[int, ...]] = set()
    kept: list[float] = []
    for sequence, row in zip(sequences, scores, strict=True):
        for end, score in enumerate(row, start=2):
            beginning = tuple(sequence[:end])
            if beginning not in seen:
                seen.add(beginning)
                kept.append(score)
    return kept


def _refuse(agreement: Agreement, reference: Reference, tolerance: float, who: str) -> None:
    if fault := agreement.fault(tolerance):
        raise StalePolicyError(
            f"{who} samples {fault}, not from version {reference.adapter.version}: its logprobs differ by "
            f"{agreement.difference:.3f} nats a token from the learner's (at most {tolerance:g} is rounding), and show "
            f"{agreement.from_base.value:.2f} of the policy's move away from the base model and "
            f"{agreement.from_previous.value:.2f} of its last move"
        )


def _minus(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(one, other, strict=True)]
