"""Losses of single requests, as the Tinker API defines them: a plain sum over every target of every datum.

They differ from `rl.algorithm.objective.policy_gradient` in that nothing is divided, ratios are not truncated, and
thresholds bound the ratio itself. Where a target weighs nothing its ratio is not looked at: a sampler's -inf or NaN
there spoils nothing.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rl.algorithm.objective.importance_weights import sequence_sums

LossName = Literal["cross_entropy", "importance_sampling", "ppo", "cispo", "dro", "gspo"]
PerTarget = Float[Tensor, " targets"]

LOW, HIGH, BETA = "clip_low_threshold", "clip_high_threshold", "beta"
DEFAULTS: dict[str, dict[str, float]] = {
    "cross_entropy": {},
    "importance_sampling": {},
    "ppo": {LOW: 0.8, HIGH: 1.2},
    "cispo": {LOW: 0.0, HIGH: 4.0},
    "dro": {BETA: 0.05},
    "gspo": {LOW: 0.8, HIGH: 1.2},
}
"""The settings that each loss has, and what they are where a request leaves them out."""
MOST_SHOWN = 100
"""Characters of a request's own words that a message repeats."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoredTargets:
    """Targets of whole datums, with their logprobs under the policy."""

    logprobs: PerTarget
    rollout_logprobs: PerTarget
    weights: PerTarget
    """Advantages, or the weights of `cross_entropy`."""
    datum_ids: Int[Tensor, " targets"]
    in_ratio: Bool[Tensor, " targets"]
    """The targets that make a datum's ratio, for `gspo`."""

    def ratios(self) -> PerTarget:
        """Return p_policy / p_rollout of each target, and 1 where it weighs nothing."""
        return self._where_weighed(self.logprobs - self.rollout_logprobs).exp()

    def datum_ratios(self) -> PerTarget:
        """Return for each target its datum's geometric mean of ratios, and 1 where the target weighs nothing."""
        gaps = torch.where(self.in_ratio, self.logprobs - self.rollout_logprobs, 0.0)
        counts = sequence_sums(self.in_ratio.to(gaps.dtype), self.datum_ids).clamp(min=1)
        return self._where_weighed(sequence_sums(gaps, self.datum_ids) / counts).exp()

    def _where_weighed(self, log_ratios: PerTarget) -> PerTarget:
        return torch.where(self.weights == 0, 0.0, log_ratios)


@dataclass(frozen=True, slots=True)
class SummedLoss:
    """A request's loss. Settings that its kind does not have are those that change nothing.

    Example: ``SummedLoss.of("ppo", {"clip_high_threshold": 1.3})``
    """

    name: LossName
    low: float = 0.0
    """Lower bound of the ratio p_policy / p_rollout."""
    high: float = math.inf
    beta: float = 0.0
    """Strength of `dro`'s penalty."""

    @classmethod
    def of(cls, name: str, config: Mapping[str, float | str]) -> "SummedLoss":
        """Return the loss of that name, with the defaults of what `config` leaves out.

        Raises:
            ValueError: the loss or a key is unknown, or a value is no bound.
        """
        settings = DEFAULTS.get(name)
        if settings is None:
            raise ValueError(_unknown(name))
        for key in config:
            if key not in settings:
                raise ValueError(f"loss {name} has no setting {_shown(key)}: {_choices(settings)}")
        values = settings | {key: _bound(name, key, value) for key, value in config.items()}
        low, high = values.get(LOW, 0.0), values.get(HIGH, math.inf)
        if low > high:
            raise ValueError(
                f"{LOW} {low:g} of loss {name} is above {HIGH} {high:g}: they bound the ratio from both sides, as in "
                "0.8 and 1.2"
            )
        known: LossName = next(known for known in get_args(LossName) if known == name)
        return cls(known, low, high, values.get(BETA, 0.0))

    def per_target(self, scored: ScoredTargets) -> PerTarget:
        """Return each target's part of the loss."""
        return _LOSSES[self.name](self, scored)

    def clipped(self, scored: ScoredTargets) -> Bool[Tensor, " targets"]:
        """Return which targets' ratios were clipped, for `update/clip_fraction`."""
        if self.name == "cispo":
            ratios = scored.ratios()
            return ((ratios < self.low) | (ratios > self.high)) & (scored.weights != 0)
        if self.name in ("ppo", "gspo"):
            ratios = scored.ratios() if self.name == "ppo" else scored.datum_ratios()
            return ((ratios > self.high) & (scored.weights > 0)) | ((ratios < self.low) & (scored.weights < 0))
        return torch.zeros_like(scored.weights, dtype=torch.bool)

    @property
    def compares(self) -> bool:
        """True if rollout logprobs have a part in it."""
        return self.name != "cross_entropy"


def _cross_entropy(_: SummedLoss, scored: ScoredTargets) -> PerTarget:
    """-w log p."""
    return -scored.weights * scored.logprobs


def _importance_sampling(_: SummedLoss, scored: ScoredTargets) -> PerTarget:
    """-r A with the ratio r = p_policy / p_rollout, however large."""
    return -scored.ratios() * scored.weights


def _ppo(loss: SummedLoss, scored: ScoredTargets) -> PerTarget:
    """-min(r A, clip(r) A) (Schulman et al. 2017, eq. 7)."""
    return _surrogate(loss, scored.ratios(), scored.weights)


def _cispo(loss: SummedLoss, scored: ScoredTargets) -> PerTarget:
    """-clip(r) A log p with clip(r) held constant (MiniMax-M1, 2025, eq. 4)."""
    return -scored.ratios().detach().clamp(loss.low, loss.high) * scored.logprobs * scored.weights


def _dro(loss: SummedLoss, scored: ScoredTargets) -> PerTarget:
    """-(A log p - beta / 2 (log r)^2) (direct reward optimization: Richemond et al. 2024).

    The penalty counts where the advantage is 0, too.
    """
    gaps = scored.logprobs - scored.rollout_logprobs
    return loss.beta / 2 * gaps.square() - scored.logprobs * scored.weights


def _gspo(loss: SummedLoss, scored: ScoredTargets) -> PerTarget:
    """`_ppo` with one ratio a datum, whose gradient all targets in it share (after GSPO, Zheng et al. 2025)."""
    return _surrogate(loss, scored.datum_ratios(), scored.weights)


def _surrogate(loss: SummedLoss, ratios: PerTarget, advantages: PerTarget) -> PerTarget:
    return -torch.minimum(ratios * advantages, ratios.clamp(loss.low, loss.high) * advantages)


_LOSSES: dict[LossName, Callable[[SummedLoss, ScoredTargets], PerTarget]] = {
    "cross_entropy": _cross_entropy,
    "importance_sampling": _importance_sampling,
    "ppo": _ppo,
    "cispo": _cispo,
    "dro": _dro,
    "gspo": _gspo,
}


def _unknown(name: str) -> str:
    if name == "stable_reinforce":
        return (
            "loss stable_reinforce is not offered, because its formula is not published: use importance_sampling, "
            "ppo, cispo or gspo"
        )
    return f"loss {_shown(name)} is unknown: use one of {', '.join(DEFAULTS)}"


def _choices(settings: Mapping[str, float]) -> str:
    return f"it has {' and '.join(settings)}" if settings else "it has none, so send an empty loss_fn_config"


def _bound(name: str, key: str, value: object) -> float:
    """Return a bound, of which the upper one may be infinite. Raises ValueError if it is none, or below 0."""
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not number >= 0 or (math.isinf(number) and key != HIGH):
        raise ValueError(f"{key} of loss {name} must be a number of at least 0, and is {_shown(value)}")
    return number


def _shown(value: object) -> str:
    """Return a value of a request as a message may repeat it."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
