"""Early stopping by the rules of Ray Tune's schedulers, without Tune's trial runner.

They ask of a trial no more than that it can be told from others, and of the runner which trials wait: here, none.
"""

from dataclasses import dataclass
from typing import Any

from rl.sweep.config import StopConfig

STEP, SCORE = "step", "score"
WORST = -1e9
"""Score of a run that came to infinity or to no number: schedulers take means and quantiles of them."""


@dataclass(frozen=True, slots=True)
class _Trial:
    trial_id: str
    status: str = "RUNNING"


class _Runner:
    def get_live_trials(self) -> set[_Trial]:
        return set()


class EarlyStopper:
    """Hears of every evaluation of every run, and says which run is to stop."""

    def __init__(self, config: StopConfig, num_steps: int) -> None:
        self._scheduler = _scheduler(config, num_steps)
        self._trials: dict[str, _Trial] = {}

    def should_stop(self, run: str, step: int, score: float) -> bool:
        """Return True if the run, whose policy at `step` is that good, is to end now."""
        if self._scheduler is None:
            return False
        if run not in self._trials:
            self._trials[run] = _Trial(run)
            self._scheduler.on_trial_add(_Runner(), self._trials[run])
        decision = self._scheduler.on_trial_result(_Runner(), self._trials[run], {STEP: step, SCORE: max(score, WORST)})
        return decision == "STOP"


def _scheduler(config: StopConfig, num_steps: int) -> Any:
    if config.scheduler == "none":
        return None
    from ray.tune import schedulers

    if config.scheduler == "median":
        return schedulers.MedianStoppingRule(
            time_attr=STEP,
            metric=SCORE,
            mode="max",
            grace_period=config.grace_steps,
            min_samples_required=config.min_others,
        )
    return schedulers.AsyncHyperBandScheduler(
        time_attr=STEP,
        metric=SCORE,
        mode="max",
        grace_period=min(config.grace_steps, max(1, num_steps)),
        max_t=max(1, num_steps),
        reduction_factor=config.reduction_factor,
        stop_last_trials=False,
    )
