"""The guard speaks up when a run goes wrong, keeps quiet when it goes well, and knows the same after a resume."""

import math
from typing import Any

import pytest

from rl.algorithm.guard.collapse import LR_SCALE, ROLLED_BACK, CollapseDetector
from rl.algorithm.lr_schedule import lr_scale
from rl.config import GuardConfig, LearnerConfig, RunConfig

CALM = {
    "reward/mean": 0.5,
    "update/kl_sampler_learner": 0.001,
    "update/entropy": 0.3,
    "update/grad_norm": 0.2,
    "completion/length_mean": 20.0,
    "completion/truncated_fraction": 0.05,
    "update/nonfinite": 0.0,
}
WINDOW = GuardConfig().window


def calm(step: int = 0) -> dict[str, float]:
    """Metrics that go up and down by half, as a healthy run's do."""
    wave = 1 + 0.5 * math.sin(step)
    return {name: value * wave for name, value in CALM.items()}


def warmed(**settings: Any) -> CollapseDetector:
    guard = CollapseDetector(GuardConfig(**settings))
    for step in range(WINDOW):
        assert guard.observe(calm(step)) == []
    return guard


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("update/kl_sampler_learner", 0.3, "KL"),
        ("update/kl_sampler_learner", math.nan, "KL"),
        ("update/entropy", 3.0, "entropy is 3"),
        ("update/entropy", 0.0, "nothing is left to explore"),
        ("update/grad_norm", 5.0, "gradient norm is 5"),
        ("completion/length_mean", 200.0, "completion length is 200"),
        ("completion/length_mean", 1.0, "completion length is 1,"),
        ("completion/truncated_fraction", 0.6, "60% of the completions are cut off"),
        ("update/nonfinite", 1.0, "not finite, so the step was skipped"),
        ("update/entropy", math.nan, "update/entropy: not finite"),
        ("update/grad_norm", math.nan, "update/grad_norm: not finite"),
        ("reward/mean", -math.inf, "reward/mean: not finite"),
    ],
)
def test_every_sign_of_a_collapse_is_named(name: str, value: float, words: str) -> None:
    (alarm,) = warmed().observe(CALM | {name: value})
    assert words in alarm


def test_a_skipped_step_is_one_alarm_though_all_its_figures_are_broken() -> None:
    broken = {name: math.nan for name in CALM if name.startswith("update/")}
    skipped, kl = warmed().observe(CALM | broken | {"update/nonfinite": 1.0})
    assert "skipped" in skipped
    assert "KL" in kl


@pytest.mark.parametrize(("action", "lasts"), [("warn", WINDOW), ("stop", 40)])
def test_a_level_that_lasts_becomes_the_usual_one_where_nobody_is_to_act_on_it(action: Any, lasts: int) -> None:
    guard = warmed(action=action)
    alarms = [bool(guard.observe(CALM | {"completion/length_mean": 200.0})) for _ in range(40)]
    assert alarms == [True] * lasts + [False] * (40 - lasts)


def test_a_healthy_run_is_left_alone_however_long() -> None:
    guard = warmed(action="stop")
    assert not any(guard.observe(calm(step) | {"eval/accuracy": 0.5 + 0.01 * (step % 7)}) for step in range(500))


def test_what_is_unusual_at_the_beginning_is_unknown() -> None:
    assert CollapseDetector(GuardConfig()).observe(CALM | {"update/entropy": 50.0}) == []


def test_a_step_without_signal_is_no_alarm() -> None:
    assert warmed().observe({"reward/mean": 1.0, "update/skipped": 1.0, "completion/length_mean": 20.0}) == []


def test_a_policy_that_fails_always_alike_is_alarming_though_no_step_of_it_can_be_learned_from() -> None:
    guard = warmed(action="stop", patience=3)
    failing = {
        "reward/mean": 0.1,
        "update/skipped": 1.0,
        "completion/length_mean": 20.0,
        "group/no_signal_fraction": 1.0,
    }
    found = [guard.observe(failing) for _ in range(4)]
    assert found[:2] == [[], []]
    assert "all fail alike (mean reward 0.1" in found[2][0]
    assert not guard.collapsed
    guard.observe(failing)
    assert guard.collapsed


def test_a_policy_that_solves_everything_and_one_that_never_solved_anything_are_left_alone() -> None:
    solved = {"reward/mean": 1.0, "group/no_signal_fraction": 1.0}
    guard = warmed()
    assert not any(guard.observe(solved) for _ in range(50))
    new = CollapseDetector(GuardConfig())
    assert not any(new.observe({"reward/mean": 0.0, "group/no_signal_fraction": 1.0}) for _ in range(50))


def test_a_teacher_teaches_by_groups_that_fail_alike() -> None:
    guard = warmed(action="stop", patience=1)
    failing = CALM | {"reward/mean": 0.0, "group/no_signal_fraction": 1.0}
    assert not any(guard.observe(failing | {"teacher/reverse_kl": 0.1}) for _ in range(5))
    assert guard.observe(failing)


def test_one_bad_step_is_no_collapse_but_several_in_a_row_are() -> None:
    guard = warmed(action="stop", patience=3)
    for metrics in (CALM | {"update/grad_norm": 9.0}, CALM, *[CALM | {"update/grad_norm": 9.0}] * 2):
        guard.observe(metrics)
        assert not guard.collapsed
    guard.observe(CALM | {"update/grad_norm": 9.0})
    assert guard.collapsed
    assert not guard.may_roll_back


def test_accuracy_far_below_the_best_is_alarming_until_it_is_back() -> None:
    guard = warmed(action="stop", patience=2)
    guard.observe(CALM | {"eval/accuracy": 0.8})
    assert "0.40, and was 0.80" in guard.observe(CALM | {"eval/accuracy": 0.4})[0]
    assert not guard.collapsed
    guard.observe(CALM)
    assert guard.collapsed
    assert guard.observe(CALM | {"eval/accuracy": 0.7}) == []


@pytest.mark.parametrize("action", ["off", "warn"])
def test_a_run_that_is_not_to_be_touched_is_not_touched(action: Any) -> None:
    guard = warmed(action=action)
    found = [guard.observe(CALM | {"update/grad_norm": 9.0}) for _ in range(9)]
    assert bool(found[0]) == (action == "warn")
    assert not guard.collapsed


def test_a_roll_back_lowers_the_rate_and_learns_anew_what_is_usual() -> None:
    guard = warmed(action="roll_back", patience=1, lr_factor=0.25, max_roll_backs=2)
    guard.observe(CALM | {"eval/accuracy": 0.9})
    for expected in (0.25, 0.0625):
        guard.observe(CALM | {"eval/accuracy": 0.1})
        assert guard.collapsed
        assert guard.may_roll_back
        guard.rolled_back()
        assert (guard.lr_scale, guard.collapsed) == (expected, False)
        assert guard.observe(CALM | {"update/grad_norm": 9.0}) == []
    assert not guard.may_roll_back


def test_a_resumed_run_has_the_same_guard() -> None:
    config = GuardConfig(action="roll_back", patience=2)
    live, rows = CollapseDetector(config), list[dict[str, float]]()
    for step in range(60):
        row = calm(step) | {"eval/accuracy": 0.9 if step < 20 else 0.2 + 0.3 * (step % 5)}
        live.observe(row)
        row[LR_SCALE] = live.lr_scale
        if live.collapsed and live.may_roll_back:
            live.rolled_back()
            row[ROLLED_BACK] = 1.0
        rows.append(row)
    resumed = CollapseDetector(config)
    resumed.replay(rows)
    assert resumed == live
    assert live.roll_backs > 0


def test_a_linear_schedule_falls_to_nothing_and_a_constant_one_stays() -> None:
    constant, linear = LearnerConfig(), LearnerConfig(lr_schedule="linear")
    assert [lr_scale(constant, step, 4) for step in range(4)] == [1, 1, 1, 1]
    assert [lr_scale(linear, step, 4) for step in range(4)] == [1, 0.75, 0.5, 0.25]


def test_a_schedule_warms_up_in_equal_parts_and_falls_along_half_a_wave() -> None:
    half = 0.5**0.5
    cosine = [1, (1 + half) / 2, 0.5, (1 - half) / 2]
    for config, expected in (
        (LearnerConfig(lr_schedule="cosine"), cosine),
        (LearnerConfig(lr_schedule="cosine", lr_floor=0.2), [0.2 + 0.8 * scale for scale in cosine]),
        (LearnerConfig(lr_schedule="linear", lr_floor=0.5), [1, 0.875, 0.75, 0.625]),
        (LearnerConfig(lr_schedule="cosine", lr_warmup_steps=3), [0.25, 0.5, 0.75, *cosine]),
        (LearnerConfig(lr_schedule="linear", lr_warmup_steps=1), [0.5, 1, 0.75, 0.5, 0.25]),
        (LearnerConfig(lr_warmup_steps=3), [0.25, 0.5, 0.75, 1, 1]),
    ):
        scales = [lr_scale(config, step, len(expected)) for step in range(len(expected))]
        assert scales == pytest.approx(expected, rel=1e-12)


def test_a_warm_up_that_never_ends_is_refused() -> None:
    assert RunConfig(num_steps=4, learner=LearnerConfig(lr_warmup_steps=3)).num_steps == 4
    with pytest.raises(ValueError, match="lr_warmup_steps = 4 never ends in num_steps = 4: set it to 3 at most"):
        RunConfig(num_steps=4, learner=LearnerConfig(lr_warmup_steps=4))
