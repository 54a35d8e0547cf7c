"""The name and the settings under which the page shows a run."""

import json
import os
import socket
from pathlib import Path
from typing import Any

from lora.config import layers_label
from rl.config import RunConfig
from rl.monitoring.dashboard.types import RunInfo
from rl.run.kind import Kind


def run_info(config: RunConfig, directory: Path, kind: Kind, name: str | None = None) -> RunInfo:
    """Return the run's name, by default its directory's, and what may tell it from others."""
    return RunInfo(
        name=name or directory.resolve().name,
        run_path=f"{socket.gethostname()}:{directory.resolve()}",
        num_steps=config.num_steps,
        settings=_policy(config, kind) | (_given(config) if kind == "sft" else _sampled(config)),
        submission_id=submission_id(),
        kind=kind,
    )


def _policy(config: RunConfig, kind: Kind) -> dict[str, Any]:
    """Return what every run has."""
    return {
        **_trained(config),
        "lr": config.learner.lr,
        "batch": config.problems_per_step,
        "seed": config.seed,
        "model": config.model.name,
        "objective": "cross_entropy" if kind == "sft" else config.learner.objective,
    }


def _trained(config: RunConfig) -> dict[str, Any]:
    if config.learner.weights == "full":
        return {"rank": "full"}
    if config.lora.kind == "tiny":
        lora = config.lora
        return {
            "rank": f"tiny {lora.rank}",
            "u": lora.u,
            "tying": lora.weight_tying,
            "layers": layers_label(lora.targets),
        }
    return {"rank": config.lora.rank, "alpha": config.lora.alpha, "layers": layers_label(config.lora.targets)}


def _sampled(config: RunConfig) -> dict[str, Any]:
    rewards = [config.reward_of(source.key) for source in config.sources] or [config.reward]
    functions = dict.fromkeys(term.name for reward in rewards for term in reward.all_terms)
    return {
        **({"data": ", ".join(source.key for source in config.sources)} if config.sources else {}),
        "reward": ", ".join(function.rpartition("/")[2] for function in functions),
        "group size": config.sampling.group_size,
        "temperature": config.sampling.temperature,
    }


def _given(config: RunConfig) -> dict[str, Any]:
    return {"completion": config.sft.completion}


def submission_id() -> str:
    """Return the submission id of the Ray job that this process drives; empty if it drives none."""
    own_id = os.environ.get("RANKONE_SUBMISSION_ID")
    job_config = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    return own_id or job_config.get("metadata", {}).get("job_submission_id", "")
