"""The learning rate of a step: a pure function of the step, so that a resumed run goes on at the rate it had."""

from rl.config import LearnerConfig


def lr_scale(config: LearnerConfig, step: int, num_steps: int) -> float:
    """Return the factor of `learner.lr` at `step`, from 1 down to just above 0 with `lr_schedule = "linear"`."""
    if config.lr_schedule == "constant":
        return 1.0
    return 1 - step / num_steps
