"""Signs of a collapse: small functions, each of which looks at one step for one sign."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rl.config import GuardConfig

LENGTH = "completion/length_mean"
GROWING = {
    "update/entropy": "entropy",
    LENGTH: "mean completion length",
    "update/grad_norm": "gradient norm",
}
"""Metrics that are compared with their usual value, and what to call them."""

SKIPPED = "the gradient, or a number that it would have made, is not finite, so the step was skipped"
"""The alarm of a step with `update/nonfinite`."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One step's metrics, and what they are compared with."""

    metrics: Mapping[str, Any]
    config: GuardConfig
    usual: Callable[[str], float | None]
    """The median of a metric over the baseline; None while that is too short."""
    accuracy: float
    """The latest held-out accuracy."""
    best_accuracy: float
    no_signal_steps: int
    """Steps in a row that taught nothing, this one included."""


Alarm = Callable[[Evidence], Iterator[str]]
"""Yields a line for each sign that it sees."""


def not_finite(step: Evidence) -> Iterator[str]:
    if step.metrics.get("update/nonfinite"):
        yield SKIPPED
    elif broken := [name for name, value in step.metrics.items() if _is_broken(name, value)]:
        yield f"{', '.join(broken)}: not finite"


def sampler_far_from_learner(step: Evidence) -> Iterator[str]:
    if step.metrics.get("curriculum/replayed"):
        return  # part of it was sampled by policies of long ago
    kl = step.metrics.get("update/kl_sampler_learner", 0.0)
    if kl > step.config.max_kl or math.isnan(kl):
        yield f"KL(sampler, learner) is {kl:.3g} nats a token, above {step.config.max_kl:g}"


def entropy_gone(step: Evidence) -> Iterator[str]:
    if step.metrics.get("update/entropy", 1.0) < step.config.min_entropy:
        yield f"the entropy is {step.metrics['update/entropy']:.1g} nats a token: nothing is left to explore"


def growing(step: Evidence) -> Iterator[str]:
    for name, words in GROWING.items():
        usual = step.usual(name)
        if usual is not None and step.metrics.get(name, 0.0) > step.config.max_growth * usual:
            yield f"the {words} is {step.metrics[name]:.3g}, usually {usual:.3g}"


def shrinking(step: Evidence) -> Iterator[str]:
    usual, length = step.usual(LENGTH), step.metrics.get(LENGTH)
    if usual is not None and length is not None and length * step.config.max_growth < usual:
        yield f"the {GROWING[LENGTH]} is {length:.3g}, usually {usual:.3g}"


def no_signal(step: Evidence) -> Iterator[str]:
    if step.no_signal_steps >= step.config.patience:
        yield (
            f"no problem taught anything for {step.no_signal_steps} steps: its completions all fail alike "
            f"(mean reward {step.metrics['reward/mean']:.3g}, usually {step.usual('reward/mean'):.3g})"
        )


def cut_off(step: Evidence) -> Iterator[str]:
    usual = step.usual("completion/truncated_fraction")
    truncated = step.metrics.get("completion/truncated_fraction", 0.0)
    if usual is not None and truncated > usual + step.config.max_truncated_rise:
        yield f"{truncated:.0%} of the completions are cut off, usually {usual:.0%}"


def accuracy_lost(step: Evidence) -> Iterator[str]:
    if step.accuracy < step.best_accuracy - step.config.max_accuracy_drop:
        yield f"held-out accuracy is {step.accuracy:.2f}, and was {step.best_accuracy:.2f}"


ALARMS: tuple[Alarm, ...] = (
    not_finite,
    sampler_far_from_learner,
    entropy_gone,
    growing,
    shrinking,
    no_signal,
    cut_off,
    accuracy_lost,
)


def _is_broken(name: str, value: Any) -> bool:
    """Return True if a figure of the policy or of its rewards is no number. KL has an alarm of its own."""
    return (
        name.startswith(("update/", "reward/", "completion/", "policy/", "eval/"))
        and name != "update/kl_sampler_learner"
        and isinstance(value, float)
        and not math.isfinite(value)
    )
