"""The device of learner and engine where both are in this process, and the type that the model has for it."""

import os

from lora.base.dtype import fastest_dtype
from rl.cluster.ray_directory import known_head
from rl.config import RunConfig, replaced


def local_device(config: RunConfig) -> str:
    """The device when all is in this process. Raises ValueError if it is not there."""
    import torch

    there = torch.cuda.is_available()
    if config.learner.device == "cuda" and not there:
        raise ValueError(
            'learner.device = "cuda", and this process has no GPU that torch can use; set "auto" or "cpu", or '
            'runtime = "ray" to use a cluster\'s'
        )
    if config.learner.device == "auto":
        return "cuda" if there else "cpu"
    return config.learner.device


def resolve_dtype(config: RunConfig) -> RunConfig:
    """Say in which type the model is, if the configuration does not.

    It is bfloat16, unless the run has this machine alone: then it is what that computes fastest in. What a cluster's
    nodes are is not known before it is joined, and one for runs has GPUs.
    """
    if config.model.dtype != "auto":
        return config
    alone = not config.on_ray or _starts_cluster()
    return replaced(config, model={"dtype": fastest_dtype(gpu=config.learner.device != "cpu") if alone else "bfloat16"})


def _starts_cluster() -> bool:
    """Return True if a run on Ray would start a cluster of its own, as `connect` does."""
    address = os.environ.get("RAY_ADDRESS", "")
    return address == "local" or (not address and known_head() is None)
