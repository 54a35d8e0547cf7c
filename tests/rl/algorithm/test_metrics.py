"""The numbers of a step."""

import contextlib
import time

import pytest
from helpers.fakes import CRASHED, RIGHT, WRONG, problem

from rewards.types import Outcome, Reward
from rl.algorithm.metrics import Stopwatch, group_metrics, throughput
from rl.types import Group
from rollout.types import Completion


def completion(length: int, version: int, *, cut: bool = False) -> Completion:
    return Completion((3,) * length, (0.0,) * length, "", "length" if cut else "stop", version)


GROUPS = [
    Group(problem("a"), [1], [completion(2, 4), completion(4, 5, cut=True)], [RIGHT, WRONG]),
    Group(problem("b"), [1], [completion(6, 5, cut=True), completion(8, 5)], [CRASHED, RIGHT]),
]


def test_the_metrics_of_groups_are_what_their_names_say() -> None:
    metrics = group_metrics(GROUPS, [[0.5, -0.5], [0.0, 0.0]], version=6)
    assert metrics["reward/mean"] == pytest.approx(2 / 3)
    assert metrics["reward/outcome/correct"] == 0.5
    assert metrics["reward/outcome/crashed"] == 0.25
    assert metrics["group/no_signal_fraction"] == 0.5
    assert metrics["completion/length_mean"] == 5
    assert metrics["completion/truncated_fraction"] == 0.5
    assert metrics["policy/version"] == 6
    assert metrics["policy/version_lag"] == 2
    assert metrics["policy/version_lag_mean"] == 1.25


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_is_counted_under_its_own_name_and_the_shares_sum_to_one(outcome: Outcome) -> None:
    group = Group(problem(), [1], [completion(1, 0)] * 2, [Reward(0.0, outcome), WRONG])
    metrics = group_metrics([group], [[0.0, 0.0]], version=0)
    shares = {name: share for name, share in metrics.items() if name.startswith("reward/outcome/")}
    assert len(shares) == len(Outcome)
    assert sum(shares.values()) == 1
    assert shares[f"reward/outcome/{outcome.value}"] == (1 if outcome is Outcome.WRONG else 0.5)


def test_a_step_whose_grades_all_crashed_has_a_mean_nonetheless() -> None:
    group = Group(problem(), [1], [completion(1, 0)], [CRASHED])
    assert group_metrics([group], [[0.0]], version=0)["reward/mean"] == 0


def test_a_stopwatch_adds_up_a_phase_even_when_it_fails() -> None:
    watch = Stopwatch()
    with watch.phase("sample"):
        time.sleep(0.02)
    with contextlib.suppress(OSError), watch.phase("sample"):
        time.sleep(0.02)
        raise OSError
    assert 0.04 <= watch.metrics()["time/sample_s"] < 2


def test_throughput_divides_tokens_by_their_phase() -> None:
    assert throughput(100, 60.0, {"sample": 4.0, "update": 3.0}) == {
        "throughput/sample_tokens_per_s": 25.0,
        "throughput/update_tokens_per_s": 20.0,
    }
