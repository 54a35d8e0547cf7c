"""Means over problems with their intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

Z = NormalDist().inv_cdf(0.975)
"""Standard errors on either side of a mean that hold 95 % of a normal distribution."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of fractions and its 95 % interval.

    Problems are what was drawn, so the interval is clustered by them: further samples of the same problem say more of
    that problem alone.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, means_P: Sequence[float]) -> "Estimate":
        """Return the estimate from every problem's own mean, between 0 and 1.

        The standard error is the means' standard deviation / sqrt(P) (Miller 2024, "Adding Error Bars to Evals").
        Where all are equal it would be 0, as if nothing more could be learned: Wilson's interval of P draws is taken.
        """
        value, error = fmean(means_P), standard_error(means_P)
        low, high = (value - Z * error, value + Z * error) if error else wilson(value, len(means_P))
        return cls(value, min(value, max(0.0, low)), max(value, min(1.0, high)))


def standard_error(means_P: Sequence[float]) -> float:
    """Return the standard error of a mean; 0 where there is one value or all are equal."""
    # `stdev` is exact in rationals: rounding makes no difference where there is none.
    return stdev(means_P) / math.sqrt(len(means_P)) if len(means_P) > 1 else 0.0


def wilson(fraction: float, draws: int) -> tuple[float, float]:
    """Return the 95 % interval of a fraction of so many draws, which has a width at 0 and 1, too (Wilson 1927)."""
    shrink = 1 + Z**2 / draws
    center = (fraction + Z**2 / (2 * draws)) / shrink
    half = Z * math.sqrt(fraction * (1 - fraction) / draws + (Z / (2 * draws)) ** 2) / shrink
    return center - half, center + half
