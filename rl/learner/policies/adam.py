"""The settings of one optimizer step."""

import math
from dataclasses import dataclass
from typing import Self

from rl.config import SMALLEST_EPS, LearnerConfig


@dataclass(frozen=True, slots=True)
class AdamConfig:
    """One step of AdamW (Loshchilov and Hutter, 2019); without weight decay it is Adam."""

    lr: float
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    """Share of a parameter, times `lr`, that each step takes away."""
    max_grad_norm: float = 0.0
    """The gradient is scaled down to at most this norm; 0 leaves it as it is."""

    @classmethod
    def of(cls, config: LearnerConfig, lr_scale: float = 1.0) -> Self:
        """Return a run's own settings, at `lr_scale` times its learning rate."""
        return cls(
            config.lr * lr_scale, config.beta1, config.beta2, config.eps, max_grad_norm=config.max_grad_norm or 0.0
        )


def check_adam(adam: AdamConfig) -> None:
    """See that a step can be taken with settings that a request brought; messages have the Tinker API's names.

    Raises:
        ValueError: a number is out of its range.
    """
    for name, beta in (("beta1", adam.beta1), ("beta2", adam.beta2)):
        if not 0 <= beta < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, and is {beta:g}")
    if not SMALLEST_EPS <= adam.eps < math.inf:
        raise ValueError(
            f"eps must be at least {SMALLEST_EPS:g}, and is {adam.eps:g}: where a gradient is 0, Adam divides 0 by it"
        )
    names = (("learning_rate", adam.lr), ("weight_decay", adam.weight_decay), ("grad_clip_norm", adam.max_grad_norm))
    for name, value in names:
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a number of at least 0, and is {value:g}")
