"""The device of learner and engine where both are in this process."""

from rl.config import RunConfig


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
