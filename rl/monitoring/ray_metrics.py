"""A run's numbers as metrics of Ray's, for a Prometheus that scrapes the cluster.

A gauge `rankone_<name>` for every metric of the run, `/` read as `_`, and counters of what was done so far. Prometheus
sees them with `ray_` in front. Reward outcomes are one metric with a label, because a plot stacks them.
"""

import math
import re
import threading
from collections.abc import Mapping, Sequence

from ray.util.metrics import Counter, Gauge

from rl.algorithm.evaluation.held_out import Evaluation
from rl.monitoring.dashboard.types import RunInfo
from rl.run.sinks import Ended, Sink
from rl.types import Group

BEAT_S = 5.0
"""Ray forgets a gauge that is not set for two of its report intervals; accuracy may be measured every ten minutes."""
OUTCOME = "reward/outcome/"
LABELS = ("run", "policy", "model", "submission_id")
"""`job` would be overwritten: Prometheus gives that name to its own."""


def metric_name(name: str) -> str:
    """Return `rankone_eval_accuracy` for `eval/accuracy`."""
    return "rankone_" + re.sub(r"\W", "_", name)


class RayMetrics(Sink):
    """Sets gauges at every step and again every few seconds; counts completions, tokens and outcomes."""

    def __init__(self, info: RunInfo, policy: str = "0") -> None:
        self._labels: dict[str, str] = dict(
            zip(LABELS, (info.name, policy, str(info.settings["model"]), info.submission_id or "none"), strict=True)
        )
        self._gauges: dict[str, Gauge] = {}
        self._values: dict[str, float] = {}
        self._completions = Counter("rankone_completions", "Completions that were graded.", LABELS)
        self._tokens = Counter("rankone_completion_tokens", "Tokens of completions that were graded.", LABELS)
        self._outcomes = Counter("rankone_outcomes", "Grades by outcome.", (*LABELS, "outcome"))
        self._lock = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._beat, name="ray-metrics", daemon=True).start()

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        """Do nothing: the figures come with the step's."""

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        with self._lock:
            self._values |= {name: value for name, value in metrics.items() if math.isfinite(value)} | {"step": step}
            self._set()
        for group in groups:
            self._completions.inc(len(group.completions), self._labels)
            self._tokens.inc(sum(completion.num_sampled for completion in group.completions), self._labels)
            for reward in group.rewards:
                self._outcomes.inc(1, {**self._labels, "outcome": str(reward.outcome)})

    def close(self, ended: Ended) -> None:
        self._closed.set()

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_S):
            with self._lock:
                self._set()

    def _set(self) -> None:
        for name, value in self._values.items():
            if name.startswith(OUTCOME):
                gauge = self._gauge("reward/outcome", (*LABELS, "outcome"))
                gauge.set(value, {**self._labels, "outcome": name.removeprefix(OUTCOME)})
            else:
                self._gauge(name, LABELS).set(value, self._labels)

    def _gauge(self, name: str, labels: tuple[str, ...]) -> Gauge:
        if name not in self._gauges:
            self._gauges[name] = Gauge(metric_name(name), f"{name} of the latest step that has one", labels)
        return self._gauges[name]
