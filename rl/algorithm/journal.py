"""The record of a run, as the two loops see it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lora.types import Adapter
from rl.algorithm.evaluation.held_out import Evaluation
from rl.types import Group, Learner


class Journal(Protocol):
    """Gives a loop its state when it begins, and takes down its events while it goes on."""

    async def restore(self, learner: Learner) -> int:
        """Bring the learner back to the newest checkpoint; return the step to go on from."""
        ...

    def history(self) -> Sequence[Mapping[str, Any]]:
        """Return the metrics of the steps before that one."""
        ...

    def unlearned(self) -> Sequence[int]:
        """Return the numbers of the groups that were begun before that step, and that no step has learned from."""
        return ()

    def drawn(self) -> Mapping[str, Any]:
        """Return what the newest checkpoint keeps of the draws before that step (`rl.algorithm.sampling.draws`)."""
        return {}

    async def on_eval(self, step: int, adapter: Adapter, evaluation: Evaluation, learner: Learner) -> None:
        """Take in how the policy at `step` did: its metrics, and what it answered."""
        await self.on_metrics(step, adapter, evaluation.metrics(), learner)
        self.on_eval_samples(step, evaluation)

    async def on_metrics(self, step: int, adapter: Adapter, metrics: Mapping[str, float], learner: Learner) -> None:
        """Take in the `eval/...` metrics of the policy at `step`; the best policy is kept."""
        ...

    def on_eval_samples(self, step: int, evaluation: Evaluation) -> None:
        """Take in what the policy at `step` answered to held-out problems."""
        ...

    def best(self) -> Adapter | None:
        """Return the best policy that was evaluated; None if none was kept."""
        return None

    def on_test(self, step: int, evaluation: Evaluation) -> None:
        """Take in what the best policy answered to the problems that are for the end of the run, `step`."""

    async def roll_back(self, learner: Learner) -> bool:
        """Bring the learner back to the best policy that was evaluated; return False if none was kept."""
        ...

    def on_alarm(self, step: int, alarms: Sequence[str]) -> None:
        """Take in what is alarming about `step`."""
        ...

    def on_step(self, step: int, metrics: dict[str, float], groups: Sequence[Group]) -> None:
        """Take in that step `step` is done."""
        ...

    async def checkpoint(
        self,
        step: int,
        adapter: Adapter,
        learner: Learner,
        unlearned: Sequence[int] = (),
        drawn: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep what is needed to go on from `step`, everything before it being done, but for `unlearned` groups."""
        ...
