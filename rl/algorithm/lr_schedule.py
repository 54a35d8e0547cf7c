"""The learning rate of a step: a pure function of the step, so that a resumed run goes on at the rate it had."""

import math

from rl.config import LearnerConfig


def lr_scale(config: LearnerConfig, step: int, num_steps: int) -> float:
    """Return the factor of `learner.lr` at `step`: up to 1 while it warms up, then as `lr_schedule` says.

    The first step after the warm-up has 1, and a falling schedule would reach `lr_floor` at `num_steps`.
    """
    warmup = config.lr_warmup_steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.lr_schedule == "constant":
        return 1.0
    done = (step - warmup) / (num_steps - warmup)
    left = 1 - done if config.lr_schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return config.lr_floor + (1 - config.lr_floor) * left
