"""The check that every engine samples from the policy it was given.

Public projects have trained for weeks while their rollouts silently came from the base model or from an older adapter.
Here each engine scores a few sequences, and its logprobs must be near the learner's. Two correct engines in bfloat16
differ by some hundredths of a nat a token, so nearness alone would let much pass:

* From the base model they must have moved as far as the learner's have. The slope of one move on the other is 1 for the
  right policy, 0 for the base, 2 for an adapter that is applied at twice its scale. It is judged once the policy has
  moved several times further than rounding does.
* The policy before this one is often nearer than rounding. But more tokens must lie on this one's side than on that
  one's. A sign test asks that, because rounding is a thousand times larger on an unlikely token than on a likely one
  and a few tokens would decide any sum of squares; what one check cannot tell adds up over several, by the one-sided
  CUSUM of Page (1954, "Continuous Inspection Schemes").
"""

import asyncio
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Self
from weakref import WeakKeyDictionary

from lora.types import Adapter
from rl.types import Learner
from rollout.types import Engine, EngineDied

log = logging.getLogger(__name__)

CERTAIN = 3.0
"""How many times the residual a move must be, root mean squares both, for its slope to be judged. Rounding alone makes
a slope of one half, having a share in the origin that both moves are measured from, and a ratio of one."""
DOUBT, EXACT = 1.5, 0.2
"""A slope is wrong that is further from 1 than `DOUBT` over that ratio, which is how well it is known where a single
token decides it, and further than `EXACT`, which two engines' arithmetic may make. So an adapter at half its scale is
noticed as soon as its slope is judged, and one at three quarters when the move is six times the residual."""

ALLOWANCE, LIMIT = 1.0, 6.0
"""Of the CUSUM, in standard deviations of a sign test. Were there nothing to see but rounding, one check in a million
would pass the limit, and on the right policy there is something to see, the other way."""

NUM_SEQUENCES = 8
LONGEST = 512
"""Tokens of a sequence that are scored: an engine holds the whole vocabulary's logits for all of them at once."""


class StalePolicyError(RuntimeError):
    """An engine does not sample from the published policy. Going on would train on the wrong data."""


@dataclass(frozen=True, slots=True)
class Slope:
    """How much of a move an engine shows, by least squares."""

    value: float
    clarity: float
    """The size of the move over that of the residual; 0 where there was no move."""

    @classmethod
    def fit(cls, seen: Sequence[float], move: Sequence[float]) -> Self:
        """The least-squares slope through the origin of `seen` on `move`."""
        size = math.fsum(m * m for m in move)
        if size == 0:
            return cls(1.0, 0.0)
        slope = math.fsum(m * s for m, s in zip(move, seen, strict=True)) / size
        residual = math.fsum((s - slope * m) ** 2 for m, s in zip(move, seen, strict=True))
        return cls(slope, math.sqrt(size / residual) if residual > 0 else math.inf)

    @property
    def certain(self) -> bool:
        """Whether it can be told from noise."""
        return self.clarity > CERTAIN

    @property
    def wrong(self) -> bool:
        """Whether it is surely not 1."""
        return self.certain and abs(self.value - 1) >= max(EXACT, DOUBT / self.clarity)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How an engine's logprobs compare with the learner's."""

    difference: float
    """Mean absolute difference from the learner's, in nats a token."""
    from_base: Slope
    """Of the policy's move away from the base model."""
    lag: float
    """How many more tokens are nearer to the policy before the published one than to that, in standard deviations of
    what chance would do; 0 where there is none before it."""

    @classmethod
    def measure(
        cls,
        sampled: Sequence[float],
        policy: Sequence[float],
        base: Sequence[float],
        previous: Sequence[float] | None = None,
    ) -> Self:
        """From the logprobs of the same tokens under the engine, and under the learner's three models."""
        differences = _minus(sampled, policy)
        return cls(
            fmean(map(abs, differences)),
            Slope.fit(_minus(sampled, base), _minus(policy, base)),
            sign_test(differences, _minus(sampled, previous)) if previous is not None else 0.0,
        )

    def fault(self, tolerance: float, suspicion: float) -> str | None:
        """What is wrong, if anything is; `suspicion` is what the lags so far add up to."""
        if self.from_base.certain and self.from_base.value < 0.2:
            return "from the base model"
        if self.from_base.wrong and self.from_base.value < 1:
            return "from a much older policy, or from the adapter at a wrong scale"
        if self.from_base.wrong:
            return "from the adapter at a wrong scale"
        if suspicion > LIMIT:
            return "from an older policy"
        if not self.difference <= tolerance:
            return "from another model or adapter"
        return None


def sign_test(differences: Sequence[float], others: Sequence[float]) -> float:
    """How far the count of `others` that are smaller than their `differences` is above one half, in standard
    deviations."""
    signs = [math.copysign(1, abs(d) - abs(o)) for d, o in zip(differences, others, strict=True) if abs(d) != abs(o)]
    return math.fsum(signs) / math.sqrt(len(signs)) if signs else 0.0


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
class PolicyChecker:
    """Checks every replica of an engine now and then, and each restarted one before it serves."""

    tolerance: float = 0.2
    reference: Reference | None = None
    """What was checked last; a restarted replica has to show the same."""
    cusum: "WeakKeyDictionary[Engine, float]" = field(default_factory=WeakKeyDictionary["Engine", float])
    """By replica: what its lags add up to. A new one in a dead one's place begins with none."""

    async def check(self, reference: Reference, engine: Engine) -> dict[str, float]:
        """Compare every replica of the engine with the reference; returns the worst one's figures.

        A replica that dies meanwhile cannot mislead anyone, and is left to its pool.

        Raises:
            StalePolicyError: a replica does not sample from the reference's adapter.
        """
        self.reference = reference
        replicas = list(engine.replicas())
        compared = await asyncio.gather(*(self._compare(reference, replica) for replica in replicas))
        seen = {replica: found for replica, found in zip(replicas, compared, strict=True) if found is not None}
        for replica, agreement in seen.items():
            self.cusum[replica] = max(0.0, self.cusum.get(replica, 0.0) + agreement.lag - ALLOWANCE)
            self._raise_if_stale(agreement, self.cusum[replica], replica.name)
        if not seen:
            return {}
        worst = max(seen.values(), key=lambda agreement: agreement.difference)
        return {
            "policy/sampler_difference": worst.difference,
            "policy/sampler_slope": worst.from_base.value,
            "policy/sampler_lag": max(agreement.lag for agreement in seen.values()),
            "policy/distance_from_base": fmean(map(abs, _minus(reference.policy, reference.base))),
        }

    async def check_restarted(self, engine: Engine) -> None:
        """Raises StalePolicyError if a restarted replica does not serve what it is given."""
        if self.reference is not None:
            agreement = await self.reference.compare(engine)
            self._raise_if_stale(agreement, agreement.lag - ALLOWANCE, f"{engine.name}, restarted,")

    async def _compare(self, reference: Reference, replica: Engine) -> Agreement | None:
        try:
            return await reference.compare(replica)
        except EngineDied as died:
            log.warning("the check of what is sampled from leaves one out: %s", died)
            return None

    def _raise_if_stale(self, agreement: Agreement, suspicion: float, who: str) -> None:
        fault = agreement.fault(self.tolerance, suspicion)
        if fault is None or self.reference is None:
            return
        raise StalePolicyError(
            f"{who} samples {fault}, not from version {self.reference.adapter.version}: its logprobs differ by "
            f"{agreement.difference:.3f} nats a token from the learner's (at most {self.tolerance:g} is rounding) and "
            f"show {agreement.from_base.value:.2f} of the policy's move away from the base model; the tokens that are "
            f"nearer to the version before it are {agreement.lag:+.1f} standard deviations from half of them"
        )


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


def _minus(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(one, other, strict=True)]
