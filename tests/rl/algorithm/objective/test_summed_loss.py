"""A request's losses, value and gradient, against the table that defines them, computed a number at a time."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from rl.algorithm.objective.summed_loss import ScoredTargets, SummedLoss

LOSSES = ("cross_entropy", "importance_sampling", "ppo", "cispo", "dro", "gspo")


@dataclass(frozen=True)
class Target:
    p: float
    q: float
    weight: float
    in_ratio: bool = True

    @property
    def ratio(self) -> float:
        return math.exp(self.p - self.q)


def clip(ratio: float, low: float, high: float) -> float:
    return min(max(ratio, low), high)


def is_cut(ratio: float, weight: float, low: float, high: float) -> bool:
    return (weight > 0 and ratio > high) or (weight < 0 and ratio < low)


def table(name: str, datum: Sequence[Target], low: float, high: float, beta: float) -> tuple[float, list[float]]:
    """Return a datum's loss, and minus its derivative by each logprob."""
    match name:
        case "cross_entropy":
            return sum(-t.weight * t.p for t in datum), [t.weight for t in datum]
        case "importance_sampling":
            return sum(-t.ratio * t.weight for t in datum), [t.ratio * t.weight for t in datum]
        case "ppo":
            values = [-min(t.ratio * t.weight, clip(t.ratio, low, high) * t.weight) for t in datum]
            return sum(values), [0.0 if is_cut(t.ratio, t.weight, low, high) else t.ratio * t.weight for t in datum]
        case "cispo":
            weights = [clip(t.ratio, low, high) * t.weight for t in datum]
            return sum(-w * t.p for w, t in zip(weights, datum, strict=True)), weights
        case "dro":
            values = [-(t.p * t.weight - beta / 2 * (t.p - t.q) ** 2) for t in datum]
            return sum(values), [t.weight - beta * (t.p - t.q) for t in datum]
        case _:
            inside = [t for t in datum if t.in_ratio]
            ratio = math.exp(sum(t.p - t.q for t in inside) / len(inside))
            values = [-min(ratio * t.weight, clip(ratio, low, high) * t.weight) for t in datum]
            learned = sum(t.weight for t in datum if not is_cut(ratio, t.weight, low, high))
            return sum(values), [ratio * learned / len(inside) if t.in_ratio else 0.0 for t in datum]


def made_data(seed: int) -> list[list[Target]]:
    """Datums of unlike length. Ratios are on all sides of all bounds, and a third of the targets weighs nothing."""
    rng = random.Random(seed)

    def target(shift: float) -> Target:
        p, inside = rng.uniform(-6, -0.1), rng.random() < 0.8
        weight = rng.choice((0.0, rng.uniform(0.1, 2), rng.uniform(-2, -0.1))) if inside else 0.0
        return Target(p, p - shift + rng.uniform(-0.1, 0.1), weight, inside)

    shifts = (-3.0, -0.5, 0.0, 0.5, 3.0)
    whole = [[target(shift) for _ in range(length)] for shift, length in zip(shifts, (3, 9, 1, 17, 6), strict=True)]
    mixed = [target(rng.choice(shifts)) for _ in range(40)]
    return [[*datum, Target(-1.0, -1.0 - shift, 1.0)] for datum, shift in zip(whole, shifts, strict=True)] + [mixed]


def scored(data: Sequence[Sequence[Target]], logprobs: torch.Tensor) -> ScoredTargets:
    flat = [target for datum in data for target in datum]
    return ScoredTargets(
        logprobs,
        torch.tensor([target.q for target in flat], dtype=logprobs.dtype),
        torch.tensor([target.weight for target in flat], dtype=logprobs.dtype),
        torch.tensor([index for index, datum in enumerate(data) for _ in datum]),
        torch.tensor([target.in_ratio for target in flat]),
    )


def computed(loss: SummedLoss, data: Sequence[Sequence[Target]]) -> tuple[float, list[float], list[bool]]:
    """Return the loss, minus its derivative by each logprob, and which targets were clipped."""
    logprobs = torch.tensor([t.p for datum in data for t in datum], dtype=torch.float64, requires_grad=True)
    targets = scored(data, logprobs)
    total = loss.per_target(targets).sum()
    (gradient,) = torch.autograd.grad(total, logprobs)
    return total.item(), (-gradient).tolist(), loss.clipped(targets).tolist()


CONFIGS: list[tuple[str, Mapping[str, float]]] = [
    *((name, {}) for name in LOSSES),
    ("ppo", {"clip_low_threshold": 0.3, "clip_high_threshold": 8.0}),
    ("ppo", {"clip_high_threshold": math.inf}),
    ("cispo", {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}),
    ("dro", {"beta": 1.5}),
    ("gspo", {"clip_low_threshold": 0.0, "clip_high_threshold": 2.0}),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "config"), CONFIGS)
def test_a_loss_and_its_gradient_are_the_tables(name: str, config: Mapping[str, float], seed: int) -> None:
    loss, data = SummedLoss.of(name, config), made_data(seed)
    total, gradient, _ = computed(loss, data)
    by_datum = [table(name, datum, loss.low, loss.high, loss.beta) for datum in data]
    assert total == pytest.approx(sum(value for value, _ in by_datum), rel=1e-12)
    assert gradient == pytest.approx([part for _, parts in by_datum for part in parts], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", ["ppo", "cispo", "gspo"])
def test_what_is_clipped_is_told(name: str) -> None:
    loss, data = SummedLoss.of(name, {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}), made_data(0)
    _, gradient, clipped = computed(loss, data)
    flat = [target for datum in data for target in datum]
    assert any(clipped)
    assert not all(clipped)
    for target, part, is_clipped in zip(flat, gradient, clipped, strict=True):
        if name == "ppo":
            assert is_clipped == (part == 0 and target.weight != 0)
        elif name == "cispo":
            assert is_clipped == (target.weight != 0 and not 0.8 <= target.ratio <= 1.2)
        elif is_clipped:
            assert target.weight != 0


def test_importance_sampling_is_not_truncated() -> None:
    total, gradient, clipped = computed(SummedLoss.of("importance_sampling", {}), [[Target(-1.0, -6.0, 2.0)]])
    assert total == pytest.approx(-2 * math.exp(5))
    assert gradient == pytest.approx([2 * math.exp(5)])
    assert clipped == [False]


@pytest.mark.parametrize("q", [-1e9, -math.inf, math.nan])
@pytest.mark.parametrize("name", ["importance_sampling", "ppo", "cispo", "gspo"])
def test_a_ratio_that_nothing_weighs_spoils_nothing(name: str, q: float) -> None:
    rest = [Target(-2.0, -2.1, 1.0), Target(-1.0, -1.2, -1.0)]
    loss = SummedLoss.of(name, {})
    clean, gradient, _ = computed(loss, [rest])
    total, spoilt, _ = computed(loss, [[Target(-3.0, q, 0.0, in_ratio=False), *rest]])
    assert (total, spoilt[1:]) == (clean, gradient)
    assert spoilt[0] == 0


def test_a_datum_whose_mask_is_empty_has_no_loss() -> None:
    total, gradient, _ = computed(SummedLoss.of("gspo", {}), [[Target(-3.0, -1.0, 0.0, in_ratio=False)] * 3])
    assert (total, gradient) == (0, [0, 0, 0])


def test_the_defaults_are_the_tables() -> None:
    assert SummedLoss.of("ppo", {}) == SummedLoss("ppo", 0.8, 1.2)
    assert SummedLoss.of("gspo", {}) == SummedLoss("gspo", 0.8, 1.2)
    assert SummedLoss.of("cispo", {}) == SummedLoss("cispo", 0.0, 4.0)
    assert SummedLoss.of("dro", {}) == SummedLoss("dro", beta=0.05)
    assert SummedLoss.of("ppo", {"clip_low_threshold": 1}) == SummedLoss("ppo", 1.0, 1.2)


@pytest.mark.parametrize(
    ("name", "config", "reason"),
    [
        ("stable_reinforce", {}, r"not offered.*importance_sampling, ppo, cispo or gspo"),
        ("mse", {}, r"loss 'mse' is unknown: use one of cross_entropy, importance_sampling, ppo, cispo, dro, gspo"),
        ("x" * 10_000, {}, r"x\.\.\. is unknown"),
        ("", {}, "loss '' is unknown"),
        ("ppo", {"clip_eps": 0.2}, r"loss ppo has no setting 'clip_eps': it has clip_low_threshold and clip_high"),
        ("ppo", {"beta": 0.2}, r"loss ppo has no setting 'beta'"),
        ("cross_entropy", {"clip_low_threshold": 0.2}, r"it has none, so send an empty loss_fn_config"),
        ("dro", {"clip_low_threshold": 0.2}, r"it has beta"),
        ("ppo", {"clip_low_threshold": -0.1}, r"must be a number of at least 0, and is -0\.1"),
        ("ppo", {"clip_low_threshold": "0.8"}, r"must be a number of at least 0, and is '0\.8'"),
        ("ppo", {"clip_low_threshold": True}, r"and is True"),
        ("ppo", {"clip_high_threshold": math.nan}, r"and is nan"),
        ("ppo", {"clip_low_threshold": math.inf}, r"and is inf"),
        ("dro", {"beta": math.inf}, r"and is inf"),
        ("ppo", {"clip_low_threshold": 1.3}, r"clip_low_threshold 1\.3 of loss ppo is above clip_high_threshold 1\.2"),
    ],
)
def test_what_is_no_loss_is_refused_in_one_line(name: str, config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refusal:
        SummedLoss.of(name, config)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300
