"""The events of a run, written into its directory and passed on to the sinks."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lora.peft.files import read_peft, write_peft
from lora.types import Adapter
from rl.algorithm.evaluation.held_out import Evaluation
from rl.algorithm.journal import Journal
from rl.learner.policies.state import state_facts
from rl.run import checkpoint
from rl.run.best_metric import ACCURACY, BestMetric
from rl.run.checkpoint import Checkpoint
from rl.run.directory import RunDirectory
from rl.run.jsonl import append_objects
from rl.run.sinks import Sinks
from rl.types import Episode, Group, Learner
from rollout.types import Completion

log = logging.getLogger(__name__)

ALARM = {"kind": "alarm"}
"""The `extra` of log records about the guard's alarms."""


class FileJournal(Journal):
    """Keeps a run directory, and passes on what happens to the sinks."""

    def __init__(
        self,
        directory: RunDirectory,
        sinks: Sinks,
        *,
        resume: bool,
        begin: bytes | None = None,
        best: BestMetric = ACCURACY,
        max_samples: int = 32,
    ) -> None:
        """`begin` is the learner's state at step 0, if it is not that of a fresh adapter; the best policy by `best` is
        kept."""
        self._directory = directory
        self._sinks = sinks
        self._resume = resume
        self._begin = begin
        self._metric = best
        self._max_samples = max_samples
        self._best_score = self._highest_score()
        self._unlearned: Sequence[int] = ()
        self._drawn: Mapping[str, Any] = {}

    async def restore(self, learner: Learner) -> int:
        self._directory.remove_scratch()
        newest = checkpoint.newest(self._directory.checkpoints) if self._resume else None
        if newest is not None:
            await self._load(learner, newest, checkpoint.file_name(newest.step))
        elif self._begin is not None:
            await learner.load_state(self._begin)
        step = newest.step if newest is not None else 0
        self._unlearned = newest.unlearned if newest is not None else ()
        self._drawn = newest.drawn if newest is not None else {}
        self._directory.truncate_from(step)
        if self._resume:
            log.info("going on from step %d%s", step, "" if newest else ", there being no checkpoint yet")
            self._report_missing(step)
        self._best_score = self._highest_score()
        return step

    def history(self) -> Sequence[Mapping[str, Any]]:
        return self._directory.metrics()

    def unlearned(self) -> Sequence[int]:
        return self._unlearned

    def drawn(self) -> Mapping[str, Any]:
        return self._drawn

    async def on_metrics(self, step: int, adapter: Adapter, metrics: Mapping[str, float], learner: Learner) -> None:
        value = self._metric.value(metrics)
        if value is not None and self._metric.score(value) > self._best_score:
            self._best_score = self._metric.score(value)
            write_peft(adapter, self._directory.adapters / "best")
            checkpoint.save_best(self._directory.checkpoints, Checkpoint(step, await learner.state()))
        write_peft(adapter, self._directory.adapters / "last")

    def on_eval_samples(self, step: int, evaluation: Evaluation) -> None:
        self._write_samples(step, "held_out", evaluation.groups)
        self._sinks.on_eval(step, evaluation)

    def best(self) -> Adapter | None:
        directory, saved = self._directory.adapters / "best", checkpoint.best(self._directory.checkpoints)
        if not directory.is_dir():
            return None
        version = 0 if saved is None else state_facts(saved.state).version  # PEFT's files do not hold it
        return read_peft(directory, run=self._directory.path.name, version=version)

    def on_test(self, step: int, evaluation: Evaluation) -> None:
        self._write_samples(step, "test", evaluation.groups)

    async def roll_back(self, learner: Learner) -> bool:
        best = checkpoint.best(self._directory.checkpoints)
        if best is None:
            return False
        await self._load(learner, best, checkpoint.BEST)
        log.warning("rolled back to the policy of step %d, the best that was evaluated", best.step)
        return True

    async def _load(self, learner: Learner, saved: Checkpoint, name: str) -> None:
        """Load a checkpoint. Raises ValueError if the learner cannot take it, such as one with a NaN in it."""
        try:
            await learner.load_state(saved.state)
        except ValueError as error:
            file = self._directory.checkpoints / name
            raise ValueError(f"cannot go on from {file}: {error}; remove it to go on from an older one") from error

    def on_alarm(self, step: int, alarms: Sequence[str]) -> None:
        log.warning("step %d: %s", step, "; ".join(alarms), extra=ALARM)

    def on_step(self, step: int, metrics: dict[str, float], groups: Sequence[Group]) -> None:
        append_objects(self._directory.metrics_file, [{"step": step, "time": time.time(), **metrics}])
        self._write_samples(step, "train", groups)
        self._sinks.on_step(step, metrics, groups)

    async def checkpoint(
        self,
        step: int,
        adapter: Adapter,
        learner: Learner,
        unlearned: Sequence[int] = (),
        drawn: Mapping[str, Any] | None = None,
    ) -> None:
        state = await learner.state()
        self._directory.sync()  # a checkpoint says that all before it stands in the metrics
        checkpoint.save(self._directory.checkpoints, Checkpoint(step, state, tuple(unlearned), drawn or {}))
        write_peft(adapter, self._directory.adapters / "last")

    def _report_missing(self, step: int) -> None:
        """Log which steps before the checkpoint have no metrics: somebody changed the file."""
        there = {row["step"] for row in self._directory.metrics()}
        if missing := [str(i) for i in range(step) if i not in there]:
            log.warning("%s lacks %d steps, the first %s", self._directory.metrics_file, len(missing), missing[0])

    def _highest_score(self) -> float:
        values = (self._metric.value(row) for row in self._directory.metrics())
        return max((self._metric.score(value) for value in values if value is not None), default=-math.inf)

    def _write_samples(self, step: int, split: str, groups: Sequence[Group]) -> None:
        append_objects(self._directory.samples_file, sample_rows(step, split, groups)[: self._max_samples])


def sample_rows(step: int, split: str, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return an object for each completion: the question, what was written, and its grade."""
    return [
        {
            "step": step,
            "split": split,
            "problem": group.problem.id,
            "question": group.problem.question,
            "answer": group.problem.answer,
            "completion": completion.text,
            "reward": reward.value,
            "outcome": str(reward.outcome),
            "policy_version": completion.policy_version,
            **episode_fields(completion),
        }
        for group in groups
        for completion, reward in zip(group.completions, group.rewards, strict=True)
    ]


def episode_fields(completion: Completion) -> dict[str, Any]:
    """Return the messages of an episode and how it ended; nothing of a completion of one turn."""
    if not isinstance(completion, Episode):
        return {}
    return {"turns": [dict(turn) for turn in completion.turns], "ending": completion.ending}
