"""Objectives against their formulas, a token at a time and in plain Python."""

import math
import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rl.algorithm.objective.policy_gradient import OBJECTIVES, aggregated, clipped, divisor
from rl.config import LearnerConfig, replaced
from rl.types import TrainBatch

CONFIG = LearnerConfig(
    max_ratio=1.6, clip_low=0.2, clip_high=0.28, gspo_clip_low=0.4, gspo_clip_high=0.05, icepop_low=0.5, icepop_high=1.5
)
RNG = random.Random(0)
SEQUENCES = [0] * 5 + [1] * 1 + [2] * 9 + [3] * 4
ADVANTAGES = [(0.5, -0.25, 1.0, -2.0)[s] for s in SEQUENCES]
LOG_RATIOS = [RNG.gauss((-0.3, 0.5, 0.1, -0.5)[s], 0.6) for s in SEQUENCES]


def loss_and_gradient(name: str, log_ratios: list[float], advantages: list[float]) -> tuple[list[float], list[float]]:
    log_ratio = torch.tensor(log_ratios, dtype=torch.float64, requires_grad=True)
    losses = OBJECTIVES[name](log_ratio, torch.tensor(advantages, dtype=torch.float64), torch.tensor(SEQUENCES), CONFIG)
    losses.sum().backward()
    assert log_ratio.grad is not None
    return losses.tolist(), log_ratio.grad.tolist()


Plain = Callable[[float, float, float], tuple[float, float, bool]]
"""From ratio, sequence ratio and advantage to loss, gradient to the token's log ratio, and whether it was clipped."""


def surrogate(ratio: float, advantage: float, low: float, high: float) -> tuple[float, float, bool]:
    limited = min(max(ratio, 1 - low), 1 + high)
    if ratio * advantage <= limited * advantage:
        return -ratio * advantage, -ratio * advantage, False
    return -limited * advantage, 0.0, True


def weighted(weight: float, advantage: float, ratio: float) -> tuple[float, float, bool]:
    return -weight * advantage, -weight * advantage, weight != ratio


PLAIN: dict[str, Plain] = {
    "importance": lambda r, _, a: weighted(min(r, CONFIG.max_ratio), a, r),
    "mis": lambda r, _, a: weighted(r if r <= CONFIG.max_ratio else 0, a, r),
    "icepop": lambda r, _, a: weighted(r if CONFIG.icepop_low <= r <= CONFIG.icepop_high else 0, a, r),
    "sequence_importance": lambda _, s, a: weighted(min(s, CONFIG.max_ratio), a, s),
    "sequence_mis": lambda _, s, a: weighted(s if s <= CONFIG.max_ratio else 0, a, s),
    "reinforce": lambda r, _, a: (-a, -a, False),
    "ppo": lambda r, _, a: surrogate(r, a, CONFIG.clip_low, CONFIG.clip_high),
    "cispo": lambda r, _, a: weighted(min(max(r, 1 - CONFIG.clip_low), CONFIG.max_ratio), a, r),
    "gspo": lambda _, s, a: surrogate(s, a, CONFIG.gspo_clip_low, CONFIG.gspo_clip_high),
    "cross_entropy": lambda r, _, a: (-a * math.log(r), -a, False),
}


def plain(name: str) -> list[tuple[float, float, bool]]:
    found: list[tuple[float, float, bool]] = []
    for log_ratio, sequence, advantage in zip(LOG_RATIOS, SEQUENCES, ADVANTAGES, strict=True):
        loss, slope, was_clipped = PLAIN[name](math.exp(log_ratio), sequence_ratio(name, sequence), advantage)
        found.append((loss / sharing(name, sequence), slope / sharing(name, sequence), was_clipped))
    return found


def sequence_ratio(name: str, sequence: int) -> float:
    """Return the product of a sequence's ratios; `gspo` has their geometric mean."""
    log_ratios = [log_ratio for log_ratio, s in zip(LOG_RATIOS, SEQUENCES, strict=True) if s == sequence]
    return math.exp(sum(log_ratios) / (len(log_ratios) if name == "gspo" else 1))


def sharing(name: str, sequence: int) -> int:
    """Among how many tokens a loss of the formula is divided."""
    return SEQUENCES.count(sequence) if name == "gspo" else 1


def test_every_objective_has_a_formula_here() -> None:
    assert PLAIN.keys() == OBJECTIVES.keys()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_on_policy_every_objective_has_the_gradient_of_reinforce(name: str) -> None:
    _, gradient = loss_and_gradient(name, [0.0] * len(SEQUENCES), ADVANTAGES)
    pairs = zip(ADVANTAGES, SEQUENCES, strict=True)
    assert gradient == pytest.approx([-advantage / sharing(name, sequence) for advantage, sequence in pairs])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_off_policy_each_has_its_own_formulas_loss_and_gradient(name: str) -> None:
    losses, gradient = loss_and_gradient(name, LOG_RATIOS, ADVANTAGES)
    assert losses == pytest.approx([loss for loss, _, _ in plain(name)], rel=1e-9)
    assert gradient == pytest.approx([slope for _, slope, _ in plain(name)], rel=1e-9)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_tokens_counted_as_clipped_are_those_the_formula_clips(name: str) -> None:
    config = CONFIG.model_copy(update={"objective": name})
    counted: Tensor = clipped(torch.tensor(LOG_RATIOS), torch.tensor(ADVANTAGES), torch.tensor(SEQUENCES), config)
    assert counted.tolist() == [was_clipped for _, _, was_clipped in plain(name)]
    if name not in ("reinforce", "cross_entropy"):
        assert 0 < counted.sum() < len(SEQUENCES)


@pytest.mark.parametrize("name", ["mis", "icepop", "sequence_mis"])
def test_a_token_that_is_left_out_teaches_nothing_however_far_off_it_is(name: str) -> None:
    """Neither an infinite ratio nor one of 0 makes a NaN; truncation would keep the first at C."""
    losses, gradient = loss_and_gradient(name, [800.0, *LOG_RATIOS[1:]], ADVANTAGES)
    assert losses[0] == gradient[0] == 0
    assert all(math.isfinite(value) for value in [*losses, *gradient])


# --- means ---

STEP = TrainBatch([], num_tokens=len(SEQUENCES) + 7, num_sequences=6, most_tokens=32)
"""The step of these sequences and of two others, of 7 tokens, that carry no signal."""
WEIGHTS: dict[str, Callable[[int], float]] = {
    "token": lambda _: 1 / STEP.num_tokens,
    "sequence": lambda length: 1 / length / STEP.num_sequences,
    "constant": lambda _: 1 / (STEP.num_sequences * 32),
}
"""Weight of a token's loss in a sequence of that length, by `learner.aggregation`."""


@pytest.mark.parametrize("aggregation", WEIGHTS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_mean_of_every_objective_is_a_plain_loop_over_sequences(name: str, aggregation: str) -> None:
    config = replaced(CONFIG, objective=name, aggregation=aggregation)
    log_ratio = torch.tensor(LOG_RATIOS, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor(SEQUENCES)
    losses = OBJECTIVES[name](log_ratio, torch.tensor(ADVANTAGES, dtype=torch.float64), ids, config)
    loss = aggregated(losses, ids, config).sum() / divisor(STEP, config)
    (gradient,) = torch.autograd.grad(loss, log_ratio)
    total, slopes = 0.0, list[float]()
    for sequence in range(4):
        tokens = [i for i, s in enumerate(SEQUENCES) if s == sequence]
        ratio = sequence_ratio(name, sequence)
        for i in tokens:
            token_loss, slope, _ = PLAIN[name](math.exp(LOG_RATIOS[i]), ratio, ADVANTAGES[i])
            total += token_loss * WEIGHTS[aggregation](len(tokens))
            slopes.append(slope * WEIGHTS[aggregation](len(tokens)))
    assert loss.item() == pytest.approx(total, rel=1e-9)
    assert gradient.tolist() == pytest.approx(slopes, rel=1e-9)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_by_default_the_losses_are_left_as_they_are(name: str) -> None:
    """Bit for bit what they were before there was a choice: a mean over tokens, and over sequences for `gspo`."""
    config = replaced(CONFIG, objective=name)
    losses = torch.tensor(LOG_RATIOS)
    assert aggregated(losses, torch.tensor(SEQUENCES), config) is losses
    assert divisor(STEP, config) == (6 if name == "gspo" else len(SEQUENCES) + 7)
    explicit = replaced(config, aggregation="sequence" if name == "gspo" else "token")
    assert aggregated(losses, torch.tensor(SEQUENCES), explicit) is losses
