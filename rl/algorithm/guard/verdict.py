"""The guard's opinion of a step, and what follows from it: a warning, a roll-back, or the end of the run."""

from collections.abc import Mapping
from dataclasses import dataclass

from rl.algorithm.guard.collapse import LR_SCALE, ROLLED_BACK, Collapse, CollapseDetector
from rl.algorithm.journal import Journal
from rl.types import Learner


@dataclass(frozen=True, slots=True)
class Verdict:
    """The guard's opinion of a step."""

    metrics: dict[str, float]
    rolled_back: bool = False
    """True if the learner has its best policy again, with which the run goes on."""
    collapse: Collapse | None = None
    """The run is to end with it, once the step is written down."""


async def apply_guard(
    guard: CollapseDetector, step: int, metrics: Mapping[str, float], learner: Learner, journal: Journal
) -> Verdict:
    """Let the guard look at a step, and do what it wants."""
    alarms = guard.observe(metrics)
    if alarms:
        journal.on_alarm(step, alarms)
    figures = {"guard/alarms": float(len(alarms)), LR_SCALE: guard.lr_scale}
    if not guard.collapsed:
        return Verdict(figures)
    if guard.may_roll_back and await journal.roll_back(learner):
        guard.rolled_back()
        return Verdict(figures | {ROLLED_BACK: 1.0}, rolled_back=True)
    again = f", rolled back {guard.roll_backs} times" if guard.roll_backs else ""
    reason = (
        f"stopped at step {step}, where the run collapses{again}: {'; '.join(alarms)}; adapters/best is its best "
        "policy: begin a new run from it (lora.init) with a lower learner.lr, or go on with --resume and other "
        "[guard] settings"
    )
    return Verdict(figures, collapse=Collapse(reason))
