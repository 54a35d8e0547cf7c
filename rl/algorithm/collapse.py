"""Alarms on signs of a collapse: late collapse after a good peak is the commonest failure of RL runs.

All that the guard knows follows from the metrics of the steps so far, so a resumed run goes on with the same guard.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rl.config import GuardConfig

LENGTH = "completion/length_mean"
NO_SIGNAL = "group/no_signal_fraction"
GROWING = {
    "update/entropy": "entropy",
    LENGTH: "mean completion length",
    "update/grad_norm": "gradient norm",
}
"""Metrics that are compared with their usual value, and what to call them."""

LR_SCALE = "guard/lr_scale"
ROLLED_BACK = "guard/rolled_back"
SKIPPED = "the gradient, or a number that it would have made, is not finite, so the step was skipped"
"""The alarm of a step with `update/nonfinite`."""


class Collapse(RuntimeError):
    """The run was stopped because its metrics showed a collapse. Its best adapter and its checkpoints are kept."""


@dataclass(slots=True)
class CollapseDetector:
    """Watches the steps of a run, one after another."""

    config: GuardConfig
    lr_scale: float = 1.0
    """What roll-backs have made of the learning rate."""
    roll_backs: int = 0
    _baseline: list[Mapping[str, Any]] = field(default_factory=list)
    _accuracy: float = 0.0
    _best: float = 0.0
    _alarmed: int = 0
    _no_signal_steps: int = 0
    """Steps in a row that taught nothing, because all completions of a problem failed alike."""

    def replay(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take in the metrics of a run that is resumed."""
        for row in rows:
            self.observe(row)
            if row.get(ROLLED_BACK):
                self.rolled_back()

    def observe(self, metrics: Mapping[str, Any]) -> list[str]:
        """What is alarming about this step, in words; a calm step becomes part of what is usual."""
        if self.config.action == "off":
            return []
        self._accuracy = metrics.get("eval/accuracy", self._accuracy)
        self._best = max(self._best, self._accuracy)
        self._no_signal_steps = self._no_signal_steps + 1 if self._has_no_signal(metrics) else 0
        found = self._alarms(metrics)
        self._alarmed = self._alarmed + 1 if found else 0
        if self.config.action == "warn" and self._alarmed >= self.config.window:
            self._baseline = []  # a new level that lasts, and that nobody is to act on, is the usual one from now on
        if not found and not self._no_signal_steps and "reward/mean" in metrics:
            self._baseline = [*self._baseline, metrics][-self.config.window :]
        return found

    @property
    def collapsed(self) -> bool:
        """Whether there were alarms for `patience` steps in a row, and something is to be done about it."""
        return self._alarmed >= self.config.patience and self.config.action in ("stop", "roll_back")

    @property
    def may_roll_back(self) -> bool:
        """Whether to go on from the best checkpoint; otherwise the run is to stop."""
        return self.config.action == "roll_back" and self.roll_backs < self.config.max_roll_backs

    def rolled_back(self) -> None:
        """The run goes on from its best checkpoint, more slowly; what is usual is to be learned anew."""
        self.lr_scale *= self.config.lr_factor
        self.roll_backs += 1
        self._baseline, self._alarmed, self._no_signal_steps, self._accuracy = [], 0, 0, self._best

    def _alarms(self, metrics: Mapping[str, Any]) -> list[str]:
        config = self.config
        found: list[str] = []
        if metrics.get("update/nonfinite"):
            found.append(SKIPPED)
        elif broken := [name for name, value in metrics.items() if _is_broken(name, value)]:
            found.append(f"{', '.join(broken)}: not finite")
        if (kl := metrics.get("update/kl_sampler_learner", 0.0)) > config.max_kl or math.isnan(kl):
            found.append(f"KL(sampler, learner) is {kl:.3g} nats a token, above {config.max_kl:g}")
        if metrics.get("update/entropy", 1.0) < config.min_entropy:
            found.append(f"the entropy is {metrics['update/entropy']:.1g} nats a token: nothing is left to explore")
        for name, words in GROWING.items():
            usual = self._median(name)
            if usual is not None and metrics.get(name, 0.0) > config.max_growth * usual:
                found.append(f"the {words} is {metrics[name]:.3g}, usually {usual:.3g}")
        usual, length = self._median(LENGTH), metrics.get(LENGTH)
        if usual is not None and length is not None and length * config.max_growth < usual:
            found.append(f"the {GROWING[LENGTH]} is {length:.3g}, usually {usual:.3g}")
        if self._no_signal_steps >= config.patience:
            reward, usual = metrics["reward/mean"], self._median("reward/mean")
            found.append(
                f"no problem taught anything for {self._no_signal_steps} steps: its completions all fail alike "
                f"(mean reward {reward:.3g}, usually {usual:.3g})"
            )
        usual = self._median("completion/truncated_fraction")
        truncated = metrics.get("completion/truncated_fraction", 0.0)
        if usual is not None and truncated > usual + config.max_truncated_rise:
            found.append(f"{truncated:.0%} of the completions are cut off, usually {usual:.0%}")
        if self._accuracy < self._best - config.max_accuracy_drop:
            found.append(f"held-out accuracy is {self._accuracy:.2f}, and was {self._best:.2f}")
        return found

    def _has_no_signal(self, metrics: Mapping[str, Any]) -> bool:
        """A policy that solves everything teaches nothing, either: the mean reward tells the two from each other."""
        usual = self._median("reward/mean")
        return metrics.get(NO_SIGNAL) == 1.0 and usual is not None and metrics.get("reward/mean", math.inf) < usual

    def _median(self, name: str) -> float | None:
        values = [row[name] for row in self._baseline if name in row]
        return median(values) if len(values) >= self.config.window else None


def _is_broken(name: str, value: Any) -> bool:
    """Whether a figure of the policy's or of its rewards is no number. KL has an alarm of its own."""
    return (
        name.startswith(("update/", "reward/", "completion/", "policy/", "eval/"))
        and name != "update/kl_sampler_learner"
        and isinstance(value, float)
        and not math.isfinite(value)
    )
