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
from typing import Self
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float

from lora.types import Adapter
from rl.types import Learner
from rollout.types import Engine, EngineDied

log = logging.getLogger(__name__)

Logprobs = Sequence[float] | Float[np.ndarray, " tokens"]

CERTAIN = 3.0
"""Size of a move over its residual, root mean squares both, from which on its slope is judged. Rounding alone makes
a slope of one half, having a share in the origin that both moves are measured from, and a ratio of one."""
DOUBT, EXACT = 1.5, 0.2
"""A slope is wrong that is further from 1 than `DOUBT` over that ratio, which is how well it is known where a single
token decides it, and further than `EXACT`, which two engines' arithmetic may make. So an adapter at half its scale is
noticed as soon as its slope is judged, and one at three quarters when the move is six times the residual."""

ALLOWANCE, LIMIT = 1.0, 6.0
"""The CUSUM's, in standard deviations of a sign test. Were there nothing to see but rounding, one check in a million
would pass the limit, and on the right policy there is something to see, the other way."""

NUM_SEQUENCES = 8
LONGEST = 512
"""Tokens of a sequence that are scored: an engine holds the whole vocabulary's logits for all of them at once."""


class StalePolicyError(RuntimeError):
    """An engine does not sample from the published policy. Going on would train on the wrong data."""


@dataclass(frozen=True, slots=True)
class Slope:
    """The part of a move that an engine shows, by least squares."""

    value: float
    clarity: float
    """The size of the move over that of the residual; 0 where there was no move."""

    @classmethod
    def fit(cls, seen: Logprobs, move: Logprobs) -> Self:
        """Fit the least-squares slope through the origin of `seen` on `move`."""
        y, x = np.asarray(seen, float), np.asarray(move, float)
        size = float(x @ x)
        if size == 0:
            return cls(1.0, 0.0)
        slope = float(x @ y) / size
        residual = float(np.square(y - slope * x).sum())
        return cls(slope, math.sqrt(size / residual) if residual > 0 else math.inf)

    @property
    def certain(self) -> bool:
        """True if the slope can be told from noise."""
        return self.clarity > CERTAIN

    @property
    def wrong(self) -> bool:
        """True if the slope is surely not 1."""
        return self.certain and abs(self.value - 1) >= max(EXACT, DOUBT / self.clarity)


@dataclass(frozen=True, slots=True)
class Agreement:
    """The comparison of an engine's logprobs with the learner's."""

    difference: float
    """Mean absolute difference from the learner's, in nats a token."""
    from_base: Slope
    """Slope of the policy's move away from the base model."""
    lag: float
    """Surplus of tokens that are nearer to the policy before the published one than to that, in standard deviations of
    chance; 0 where there is none before it."""

    @classmethod
    def measure(
        cls,
        sampled: Logprobs,
        policy: Logprobs,
        base: Logprobs,
        previous: Logprobs | None = None,
    ) -> Self:
        """Compare logprobs, float[tokens], of the same tokens under the engine and under the learner's three models."""
        differences = np.subtract(sampled, policy)
        return cls(
            float(np.abs(differences).mean()),
            Slope.fit(np.subtract(sampled, base), np.subtract(policy, base)),
            sign_test(differences, np.subtract(sampled, previous)) if previous is not None else 0.0,
        )

    def fault(self, tolerance: float, suspicion: float) -> str | None:
        """Return what is wrong, or None; `suspicion` is what the lags so far add up to."""
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


def sign_test(differences: Logprobs, others: Logprobs) -> float:
    """Count the `others` that are smaller than their `differences`; return its excess over one half, in standard
    deviations. Ties count for neither side."""
    excess = np.abs(differences) - np.abs(others)
    signs = np.copysign(1.0, excess[excess != 0])
    return float(signs.sum()) / math.sqrt(len(signs)) if len(signs) else 0.0


@dataclass(frozen=True, slots=True)
class Reference:
    """The answer of a right engine: the learner's logprobs of some sequences, under one adapter and its origins."""

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
        """Compare one engine with this."""
        sampled = distinct(self.sequences, await engine.score(self.sequences, self.adapter))
        return Agreement.measure(sampled, self.policy, self.base, self.previous)


@dataclass(slots=True)
class PolicyChecker:
    """Checks every replica of an engine now and then, and each restarted one before it serves."""

    tolerance: float = 0.2
    reference: Reference | None = None
    """The latest reference; a restarted replica has to agree with it."""
    cusum: "WeakKeyDictionary[Engine, float]" = field(default_factory=WeakKeyDictionary["Engine", float])
    """Sum of each replica's lags. A new replica in a dead one's place begins with none."""

    async def check(self, reference: Reference, engine: Engine) -> dict[str, float]:
        """Compare every replica of the engine with the reference, and return the worst one's figures.

        A replica that dies meanwhile cannot mislead anyone, and is left to its pool.

        Raises:
            StalePolicyError: a replica does not sample from the reference's adapter.
        """
        self.reference = reference
        replicas = list(engine.replicas())
        compared = await asyncio.gather(*(self._compare(reference, replica) for replica in replicas))
        agreements = {replica: seen for replica, seen in zip(replicas, compared, strict=True) if seen is not None}
        for replica, agreement in agreements.items():
            self.cusum[replica] = max(0.0, self.cusum.get(replica, 0.0) + agreement.lag - ALLOWANCE)
            self._raise_if_stale(agreement, self.cusum[replica], replica.name)
        if not agreements:
            return {}
        worst = max(agreements.values(), key=lambda agreement: agreement.difference)
        return {
            "policy/sampler_difference": worst.difference,
            "policy/sampler_slope": worst.from_base.value,
            "policy/sampler_lag": max(agreement.lag for agreement in agreements.values()),
            "policy/distance_from_base": float(np.abs(np.subtract(reference.policy, reference.base)).mean()),
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
            log.warning("the liveness check leaves one worker out: %s", died)
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
    """Return the scores of tokens that no earlier sequence has after the same beginning.

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
