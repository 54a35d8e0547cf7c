"""Published recipes by name: what their objectives, advantages and choice of problems are.

A preset sets no learning rate, batch or length: published ones are those of full fine-tuning on other models.
"""

from collections.abc import Mapping
from typing import Any, Literal, cast

from pydantic import BaseModel

from rollout.config import SamplingConfig

Preset = Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo", "reinforce++"]
Tables = Mapping[str, Mapping[str, Any]]

CLIP = {"objective": "ppo", "clip_low": 0.2, "clip_high": 0.2}
REFILL = {"refill_rounds": 9}
"""DAPO bounds nothing; its code gives a step up after ten batches."""
PRESETS: dict[str, Tables] = {
    "grpo": {
        "learner": CLIP
        | {"advantage": "mean_std", "aggregation": "sequence", "kl_coef": 0.04, "kl_in": "loss", "kl_estimator": "k3"}
    },
    "dr_grpo": {"learner": CLIP | {"advantage": "mean", "aggregation": "constant", "kl_coef": 0.0}},
    "dapo": {
        "learner": CLIP | {"clip_high": 0.28, "advantage": "mean_std", "aggregation": "token", "kl_coef": 0.0},
        "curriculum": REFILL,
    },
    "gspo": {
        "learner": {
            "objective": "gspo", "gspo_clip_low": 3e-4, "gspo_clip_high": 4e-4, "advantage": "mean_std",
            "aggregation": "sequence", "kl_coef": 0.0,
        }
    },
    "cispo": {
        "learner": {
            "objective": "cispo", "clip_low": 1.0, "max_ratio": 5.0, "advantage": "mean_std", "aggregation": "token",
            "kl_coef": 0.0,
        },
        "curriculum": REFILL,
    },
    "rloo": {
        "learner": {
            "objective": "reinforce", "advantage": "leave_one_out", "aggregation": "constant", "kl_coef": 0.05,
            "kl_in": "reward", "kl_estimator": "k1",
        }
    },
    "reinforce++": {
        "learner": CLIP
        | {
            "advantage": "none", "advantage_scale": "batch", "aggregation": "token", "kl_coef": 0.01,
            "kl_in": "reward", "kl_estimator": "k1",
        }
    },
}  # fmt: skip
WITH_PENALTY = ("dapo", "cispo")
"""Presets that penalise the last fifth of the longest completion (DAPO, section 4.1: 4096 of 20480 tokens)."""


def with_preset(values: Any) -> Any:
    """Return a run's values as they were given, and beneath them those of the preset that they name, if any."""
    name = values.get("preset") if isinstance(values, Mapping) else None
    if not isinstance(name, str) or name not in PRESETS:
        return values
    given = cast("Mapping[str, Any]", values)
    tables = {table: dict(settings) for table, settings in PRESETS[name].items()}
    if name in WITH_PENALTY:
        tables["learner"]["overlong_buffer"] = _longest(given.get("sampling")) // 5
    explicit = {table: _explicit(given.get(table)) for table in tables}
    merged = {table: settings | own for table, settings in tables.items() if (own := explicit[table]) is not None}
    return {**given, **merged}


def _explicit(table: Any) -> dict[str, Any] | None:
    """Return what was set in a table; None if it is no table, which is for the check of the values to say."""
    if isinstance(table, BaseModel):
        return {name: getattr(table, name) for name in table.model_fields_set}
    return dict(cast("Mapping[str, Any]", table or {})) if isinstance(table, Mapping | None) else None


def _longest(sampling: Any) -> int:
    """Return the longest completion's tokens, the default where they are not set to a number."""
    most = (_explicit(sampling) or {}).get("max_tokens")
    return most if isinstance(most, int) else SamplingConfig().max_tokens
