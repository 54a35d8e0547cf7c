"""Settings of the checks beside a run: that its engines sample from its policy, and that this does not collapse."""

from typing import Literal

from pydantic import Field

from rl.config.strict import Strict


class LivenessConfig(Strict):
    """The check that the engines sample from the policy they were given, not from the base or an older one."""

    every: int = Field(default=5, ge=1)
    """Steps between checks; the first steps are always checked."""
    tolerance: float = Field(default=0.2, gt=0)
    """Largest mean absolute difference of logprobs, in nats a token, that rounding may make between an engine and the
    learner."""


class GuardConfig(Strict):
    """Alarms on signs of a collapse, and what they do.

    "Usual" is the median of the last `window` steps, and nothing is unusual before there are `window` of them.
    """

    action: Literal["off", "warn", "stop", "roll_back"] = "warn"
    """`roll_back` goes on from the best checkpoint at `lr_factor` times the learning rate."""
    patience: int = Field(default=3, ge=1)
    """Steps in a row with an alarm before the run stops or rolls back: one bad step is no collapse. So many steps in a
    row in which all completions fail alike are an alarm."""
    window: int = Field(default=10, ge=2)
    """Steps whose median is the usual value."""
    max_kl: float = Field(default=0.1, gt=0)
    """Highest `update/kl_sampler_learner`, in nats a token. On policy it is rounding, about 0.001, and what
    `sampling.top_p`, `top_k` and `min_p` cut off."""
    max_growth: float = Field(default=4.0, gt=1)
    """Highest entropy, completion length and gradient norm, as multiples of their usual values; and the smallest
    completion length is the usual one divided by it."""
    min_entropy: float = Field(default=1e-4, ge=0)
    """Lowest entropy, in nats a token: below it nothing is left to explore."""
    max_truncated_rise: float = Field(default=0.3, gt=0)
    """Largest rise of `completion/truncated_fraction` above its usual value."""
    max_accuracy_drop: float = Field(default=0.3, gt=0)
    """Largest fall of `eval/accuracy` below the run's best."""
    lr_factor: float = Field(default=0.5, gt=0, le=1)
    """Factor by which a roll-back multiplies the learning rate."""
    max_roll_backs: int = Field(default=3, ge=1)
    """The next collapse after that many stops the run."""
