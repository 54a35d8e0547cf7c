"""Presets are the published settings, and what a user sets wins over them."""

from pathlib import Path
from typing import Any, get_args

import pytest

from rl.config import LearnerConfig, Preset, RunConfig, replaced
from rl.settings.toml import dump_config, load_config
from rl.sweep.config import SweepConfig
from rl.sweep.points import sweep_of

PUBLISHED: dict[str, dict[str, Any]] = {
    "grpo": {  # Shao et al. 2024: eq. 3 and 4, beta = 0.04 (section 4.2); PPO's clip
        "objective": "ppo", "clip_low": 0.2, "clip_high": 0.2, "advantage": "mean_std", "aggregation": "sequence",
        "kl_coef": 0.04, "kl_in": "loss", "kl_estimator": "k3",
    },
    "dr_grpo": {  # Liu et al. 2025: neither the length nor the deviation divides; beta = 0
        "objective": "ppo", "clip_low": 0.2, "clip_high": 0.2, "advantage": "mean", "aggregation": "constant",
    },
    "dapo": {  # Yu et al. 2025, section 4.1: a buffer of 4096 of 20480 tokens
        "objective": "ppo", "clip_low": 0.2, "clip_high": 0.28, "advantage": "mean_std", "aggregation": "token",
        "overlong_buffer": 4096,
    },
    "gspo": {  # Zheng et al. 2025, eq. 5 to 7, section 5.1
        "objective": "gspo", "gspo_clip_low": 3e-4, "gspo_clip_high": 4e-4, "advantage": "mean_std",
        "aggregation": "sequence",
    },
    "cispo": {  # MiniMax-M1 2025, eq. 4: no lower bound; with DAPO's choice of problems and penalty
        "objective": "cispo", "clip_low": 1.0, "max_ratio": 5.0, "advantage": "mean_std", "aggregation": "token",
        "overlong_buffer": 4096,
    },
    "rloo": {  # Ahmadian et al. 2024: REINFORCE over whole completions, the KL in their rewards; TRL's weight
        "objective": "reinforce", "advantage": "leave_one_out", "aggregation": "constant", "kl_coef": 0.05,
        "kl_in": "reward", "kl_estimator": "k1",
    },
    "reinforce++": {  # Hu et al. 2025, eq. 8 to 10
        "objective": "ppo", "clip_low": 0.2, "clip_high": 0.2, "advantage": "none", "advantage_scale": "batch",
        "aggregation": "token", "kl_coef": 0.01, "kl_in": "reward", "kl_estimator": "k1",
    },
}  # fmt: skip
LONG = ("sampling.max_tokens=20480", "model.max_length=24000")


def test_there_is_a_row_of_settings_and_of_the_docs_for_every_preset() -> None:
    assert set(PUBLISHED) == set(get_args(Preset))
    page = (Path(__file__).parents[2] / "docs" / "objectives.md").read_text(encoding="utf-8")
    assert [name for name in PUBLISHED if f'| `"{name}"` |' not in page] == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_is_the_published_settings_and_touches_no_other(name: str, tmp_path: Path) -> None:
    config = load_config(None, [f'preset="{name}"', *LONG])
    assert config.learner == LearnerConfig.model_validate(PUBLISHED[name])
    rounds = 9 if name in ("dapo", "cispo") else 0
    plain = load_config(None, [*LONG, f"curriculum.refill_rounds={rounds}"])
    assert replaced(config, preset=None, learner=LearnerConfig()) == plain
    (tmp_path / "config.toml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "config.toml") == config


def test_what_is_set_wins_over_a_preset_whichever_comes_first() -> None:
    overrides = ["learner.kl_coef=0.001", "learner.aggregation=auto", "preset=grpo", "learner.lr=1e-3"]
    for order in (overrides, overrides[::-1]):
        learner = load_config(None, order).learner
        assert (learner.kl_coef, learner.aggregation, learner.lr, learner.advantage) == (1e-3, "auto", 1e-3, "mean_std")
    made = RunConfig(preset="dapo", learner=LearnerConfig(clip_high=0.5))
    assert (made.learner.clip_high, made.learner.advantage, made.learner.overlong_buffer) == (0.5, "mean_std", 51)
    assert made.curriculum.refill_rounds == 9
    assert load_config(None, ["preset=dapo", "steps_in_flight=2", "curriculum.refill_rounds=0"]).steps_in_flight == 2


def test_a_sweep_takes_a_preset_in_its_base_and_varies_none(tmp_path: Path) -> None:
    base = {"preset": "grpo", "learner": {"lr": 1e-3}}
    sweep = sweep_of(
        SweepConfig.model_validate({"base": base, "axes": {"learner.kl_coef": [0.0, 0.1]}}), tmp_path / "s"
    )
    assert [point.config.learner.kl_coef for point in sweep.points] == [0.0, 0.1]
    assert {point.config.learner.advantage for point in sweep.points} == {"mean_std"}
    varied = SweepConfig.model_validate({"base": base, "axes": {"preset": ["grpo", "dapo"]}})
    with pytest.raises(ValueError, match="preset cannot differ between the runs of a sweep"):
        sweep_of(varied, tmp_path / "s")


def test_a_preset_that_does_not_fit_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"preset must be \"grpo\".* or \"reinforce"):
        load_config(None, ["preset=ppo2"])
    with pytest.raises(ValueError, match="refill_rounds"):
        load_config(None, ["preset=dapo", "steps_in_flight=2"])
    with pytest.raises(ValueError, match="learner must be a table"):
        load_config(None, ["preset=grpo", "learner=3"])
