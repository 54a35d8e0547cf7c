"""The metric by which a run's best policy is chosen."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rl.run.kind import Kind


@dataclass(frozen=True, slots=True)
class BestMetric:
    """A metric of held-out problems by which policies are compared."""

    name: str
    words: str
    """Its name in messages."""
    higher_is_better: bool

    def value(self, metrics: Mapping[str, Any]) -> float | None:
        """Return the metric; None if it was not measured."""
        return metrics.get(self.name)

    def score(self, value: float) -> float:
        """Return a number that is higher the better the value is; the lowest for what is no number."""
        if math.isnan(value):
            return -math.inf
        return value if self.higher_is_better else -value

    def best(self, values: Iterable[float]) -> float | None:
        """Return the best of the values; None if there are none."""
        return max(values, key=self.score, default=None)


ACCURACY = BestMetric("eval/accuracy", "held-out accuracy", higher_is_better=True)
LOG_LOSS = BestMetric("eval/log_loss", "held-out log-loss", higher_is_better=False)
"""In nats a token."""
BEST: Mapping[Kind, BestMetric] = {"train": ACCURACY, "sft": LOG_LOSS}
"""The metric of each kind of run."""
