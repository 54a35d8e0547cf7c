"""The guard: it watches for a collapse, because late collapse after a good peak is the commonest failure of RL runs.

Everything it knows follows from the metrics of the steps so far, so a resumed run goes on with the same guard.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rl.algorithm.guard.alarms import ALARMS, Evidence
from rl.config import GuardConfig

NO_SIGNAL = "group/no_signal_fraction"
LR_SCALE = "guard/lr_scale"
ROLLED_BACK = "guard/rolled_back"
TAUGHT = "teacher/reverse_kl"
"""A metric of steps that have a teacher, which teaches by every group, whatever its rewards are."""


class Collapse(RuntimeError):
    """The run was stopped because its metrics showed a collapse. Its best adapter and its checkpoints are kept."""


@dataclass(slots=True)
class CollapseDetector:
    """Watches the steps of a run, one after another."""

    config: GuardConfig
    lr_scale: float = 1.0
    """Factor of the learning rate after the roll-backs so far."""
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
        """Return the alarms that this step raises, in words; a step without one becomes part of the baseline."""
        if self.config.action == "off":
            return []
        self._accuracy = metrics.get("eval/accuracy", self._accuracy)
        self._best = max(self._best, self._accuracy)
        self._no_signal_steps = self._no_signal_steps + 1 if self._has_no_signal(metrics) else 0
        alarms = self._alarms(metrics)
        self._alarmed = self._alarmed + 1 if alarms else 0
        if self.config.action == "warn" and self._alarmed >= self.config.window:
            self._baseline = []  # a new level that lasts, and that nobody is to act on, is the usual one from now on
        if not alarms and not self._no_signal_steps and "reward/mean" in metrics:
            self._baseline = [*self._baseline, metrics][-self.config.window :]
        return alarms

    @property
    def collapsed(self) -> bool:
        """True after alarms for `patience` steps in a row, where the configuration asks for more than a warning."""
        return self._alarmed >= self.config.patience and self.config.action in ("stop", "roll_back")

    @property
    def may_roll_back(self) -> bool:
        """True if the run may go on from its best checkpoint; otherwise it must stop."""
        return self.config.action == "roll_back" and self.roll_backs < self.config.max_roll_backs

    def rolled_back(self) -> None:
        """Take note that the run went on from its best checkpoint: train more slowly, and learn the baseline anew."""
        self.lr_scale *= self.config.lr_factor
        self.roll_backs += 1
        self._baseline, self._alarmed, self._no_signal_steps, self._accuracy = [], 0, 0, self._best

    def _alarms(self, metrics: Mapping[str, Any]) -> list[str]:
        evidence = Evidence(
            metrics, self.config, self._median, self._accuracy, self._best, no_signal_steps=self._no_signal_steps
        )
        return [words for alarm in ALARMS for words in alarm(evidence)]

    def _has_no_signal(self, metrics: Mapping[str, Any]) -> bool:
        """Return True if no group has a signal, and the mean reward says that this is not because all is solved."""
        if TAUGHT in metrics:
            return False
        usual = self._median("reward/mean")
        return metrics.get(NO_SIGNAL) == 1.0 and usual is not None and metrics.get("reward/mean", math.inf) < usual

    def _median(self, name: str) -> float | None:
        values = [row[name] for row in self._baseline if name in row]
        return median(values) if len(values) >= self.config.window else None
