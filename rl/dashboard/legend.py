"""What a run is called on the page."""

import json
import os
import socket
from pathlib import Path

from rl.config import RunConfig
from rl.dashboard.types import RunInfo


def run_info(config: RunConfig, directory: Path) -> RunInfo:
    """The run's name and what may tell it from others."""
    reward = ", ".join(term.function for term in config.reward.terms) or config.reward.function
    return RunInfo(
        name=directory.resolve().name,
        place=f"{socket.gethostname()}:{directory.resolve()}",
        num_steps=config.num_steps,
        settings={
            "rank": config.lora.rank,
            "lr": config.learner.lr,
            "alpha": config.lora.alpha,
            "seed": config.seed,
            "model": config.model.name,
            "reward": reward,
            "objective": config.learner.objective,
            "group size": config.sampling.group_size,
            "temperature": config.sampling.temperature,
        },
        submission_id=submission_id(),
    )


def submission_id() -> str:
    """Of the Ray job that this process is the driver of; empty if it is none."""
    ours = os.environ.get("RANKONE_SUBMISSION_ID")
    said = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    return ours or said.get("metadata", {}).get("job_submission_id", "")
