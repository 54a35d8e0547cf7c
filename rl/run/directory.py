"""A run as a directory: `config.toml`, `metrics.jsonl`, `samples.jsonl`, `adapters/`, `checkpoints/`, and the curve."""

import json
import logging
import math
import shutil
import stat
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from lora import atomic_write as durable
from lora.atomic_write import write_atomic
from lora.files import write_peft
from lora.ordinary_file import require_directory, require_file
from lora.types import Adapter
from rl.algorithm.evaluate import Evaluation
from rl.config import RunConfig
from rl.run import checkpoint
from rl.run.checkpoint import Checkpoint
from rl.run.directory_lock import locked, outside_a_sweep
from rl.run.jsonl import append_objects, is_metrics, is_row, read_metrics, read_samples, warn_of_others
from rl.run.sinks import Sinks
from rl.settings.toml import dump_config, load_config
from rl.train import Journal
from rl.types import Group, Learner

log = logging.getLogger(__name__)

ALARM = {"kind": "alarm"}
"""What the log's records of the guard's alarms have besides (`extra` of `logging`)."""


Changes = Mapping[str, tuple[str, str]]
"""Settings by their dotted names: what each was, and what it is, as JSON."""


class RunDirectory:
    """The files of one run, and how to read them back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics_file = path / "metrics.jsonl"
        self.samples_file = path / "samples.jsonl"
        self.adapters = path / "adapters"
        self.checkpoints = path / "checkpoints"
        self.tensorboard = path / "tensorboard"

    @classmethod
    def create(cls, path: Path, config: RunConfig) -> "RunDirectory":
        """A new run's directory, with the resolved configuration in it.

        Raises:
            ValueError: there is a run in it already, or it cannot be written.
        """
        if holds_run(path):
            raise ValueError(f"{path} holds a run already; continue it with --resume, or choose another --out")
        try:
            path.mkdir(parents=True, exist_ok=True)
            check_kinds(path)
            write_atomic(path / "config.toml", dump_config(config).encode())
        except OSError as error:
            raise ValueError(
                f"cannot write the run directory {path}: {error.strerror}; choose another --out"
            ) from error
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Raises ValueError if there is no run."""
        if not holds_run(path):
            raise ValueError(f"{path} holds no run: it has no config.toml")
        return cls(path)

    @contextmanager
    def locked(self) -> Generator[None]:
        """Keep other processes, on any node that sees this directory, from writing to it; it is made if need be.

        Raises:
            ValueError: another process has it, or the sweep that this run is part of; it cannot be made; or something
                else has the name of a part of a run.
        """
        check_kinds(self.path)
        with outside_a_sweep(self.path), locked(self.path):
            yield

    def reconfigure(self, config: RunConfig) -> list[str]:
        """Go on with this configuration from now on; what is different, in words.

        Raises:
            ValueError: with it, the checkpoints would be another policy's.
        """
        changes = self.changes(config)
        if fixed := [f"{name} is {new}, and was {old}" for name, (old, new) in changes.items() if _is_fixed(name)]:
            raise ValueError(
                f"{self.path} cannot go on as another policy: {'; '.join(fixed)}; choose another --out, or leave it as "
                "it was"
            )
        self.write_config(config)
        return in_words(changes)

    def changes(self, config: RunConfig) -> Changes:
        """Return the settings in which this configuration differs from the run's; none if that cannot be told."""
        try:
            return _changes(load_config(self.path / "config.toml"), config)
        except ValueError as error:
            log.warning("it cannot be told whether the settings have changed: %s", error)
            return {}

    def write_config(self, config: RunConfig) -> None:
        """Write down that the run has this configuration from now on."""
        write_atomic(self.path / "config.toml", dump_config(config).encode())

    def metrics(self) -> list[dict[str, Any]]:
        """One object a step, in order."""
        return list(read_metrics(self.metrics_file))

    def curve(self) -> list[tuple[int, float]]:
        """Held-out accuracy by step."""
        return [(row["step"], row["eval/accuracy"]) for row in self.metrics() if "eval/accuracy" in row]

    def remove_scratch(self) -> None:
        """Remove what a kill left half-written."""
        for place, names in ((self.path, ".*.*-*"), (self.adapters, "**/.*"), (self.checkpoints, ".*")):
            for scratch in list(place.glob(names)):
                if scratch.is_dir():
                    shutil.rmtree(scratch, ignore_errors=True)
                else:
                    scratch.unlink(missing_ok=True)

    def truncate_from(self, step: int) -> None:
        """Drop what was written about `step` and later ones: they are about to be done again. What is about no step
        is dropped too, and the log says so."""
        for file, read, is_right in (
            (self.metrics_file, read_metrics, is_metrics),
            (self.samples_file, read_samples, is_row),
        ):
            if file.exists():
                warn_of_others(file, is_right)
                kept = [json.dumps(row) + "\n" for row in read(file) if row["step"] < step]
                write_atomic(file, "".join(kept).encode())

    def sync(self) -> None:
        """Bring the lines so far onto the disk."""
        for file in (self.metrics_file, self.samples_file):
            if file.exists():
                durable.sync(file)


FILES = ("config.toml", "metrics.jsonl", "samples.jsonl", ".lock", "curve.png")
DIRECTORIES = ("adapters", "checkpoints", "tensorboard")


def holds_run(path: Path) -> bool:
    """Return True if a run was begun in that directory. Raises ValueError if that cannot be told."""
    try:
        return stat.S_ISREG((path / "config.toml").stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ValueError(f"cannot look into {path}: {error.strerror}; choose another --out") from error


def check_kinds(path: Path) -> None:
    """Raises ValueError if something else has the name of a run's file or directory: a directory, a FIFO, a link to
    nothing."""
    try:
        for name in FILES:
            require_file(path / name)
        for name in DIRECTORIES:
            require_directory(path / name)
        for file in (path / "checkpoints").glob("*"):
            require_file(file)
    except OSError as error:
        raise ValueError(
            f"{error.filename} cannot be a run's: {error.strerror}; move it away, or choose another --out"
        ) from None


Score = Callable[[Mapping[str, Any]], float | None]
"""How good a policy is by its metrics, if they say so."""


def accuracy_of(metrics: Mapping[str, Any]) -> float | None:
    """Held-out accuracy."""
    return metrics.get("eval/accuracy")


class FileJournal(Journal):
    """Keeps a run directory, and passes on what happens to the sinks."""

    def __init__(
        self,
        directory: RunDirectory,
        sinks: Sinks,
        *,
        resume: bool,
        begin: bytes | None = None,
        score: Score = accuracy_of,
        max_samples: int = 32,
    ) -> None:
        """`begin` is the learner's state at step 0, if it is not that of a fresh adapter; the policy with the highest
        `score` is kept as the best."""
        self._directory = directory
        self._sinks = sinks
        self._resume = resume
        self._begin = begin
        self._score = score
        self._max_samples = max_samples
        self._best = self._best_score()

    async def restore(self, learner: Learner) -> int:
        self._directory.remove_scratch()
        found = checkpoint.newest(self._directory.checkpoints) if self._resume else None
        if found is not None:
            await self._load(learner, found, checkpoint.file_name(found.step))
        elif self._begin is not None:
            await learner.load_state(self._begin)
        step = found.step if found is not None else 0
        self._directory.truncate_from(step)
        if self._resume:
            log.info("going on from step %d%s", step, "" if found else ", there being no checkpoint yet")
            self._report_missing(step)
        self._best = self._best_score()
        return step

    def history(self) -> Sequence[Mapping[str, Any]]:
        return self._directory.metrics()

    async def on_eval(self, step: int, adapter: Adapter, evaluation: Evaluation, learner: Learner) -> None:
        await self.on_metrics(step, adapter, evaluation.metrics(), learner)
        self.on_eval_samples(step, evaluation)

    async def on_metrics(self, step: int, adapter: Adapter, metrics: Mapping[str, float], learner: Learner) -> None:
        """These `eval/...` metrics are of the policy at `step`; the best one is kept."""
        score = self._score(metrics)
        if score is not None and score > self._best:
            self._best = score
            write_peft(adapter, self._directory.adapters / "best")
            checkpoint.save_best(self._directory.checkpoints, Checkpoint(step, await learner.state()))
        write_peft(adapter, self._directory.adapters / "last")

    def on_eval_samples(self, step: int, evaluation: Evaluation) -> None:
        """The policy at `step` answered the held-out problems."""
        self._write_samples(step, "held_out", evaluation.groups)
        self._sinks.on_eval(step, evaluation)

    async def roll_back(self, learner: Learner) -> bool:
        best = checkpoint.best(self._directory.checkpoints)
        if best is None:
            return False
        await self._load(learner, best, checkpoint.BEST)
        log.warning("rolled back to the policy of step %d, the best that was evaluated", best.step)
        return True

    async def _load(self, learner: Learner, found: Checkpoint, name: str) -> None:
        """Raises ValueError if the learner cannot take it, such as one with a number that is not finite."""
        try:
            await learner.load_state(found.state)
        except ValueError as error:
            file = self._directory.checkpoints / name
            raise ValueError(f"cannot go on from {file}: {error}; remove it to go on from an older one") from error

    def on_alarm(self, step: int, alarms: Sequence[str]) -> None:
        log.warning("step %d: %s", step, "; ".join(alarms), extra=ALARM)

    def on_step(self, step: int, metrics: dict[str, float], groups: Sequence[Group]) -> None:
        append_objects(self._directory.metrics_file, [{"step": step, "time": time.time(), **metrics}])
        self._write_samples(step, "train", groups)
        self._sinks.on_step(step, metrics, groups)

    async def checkpoint(self, step: int, adapter: Adapter, learner: Learner) -> None:
        state = await learner.state()
        self._directory.sync()  # a checkpoint says that all before it stands in the metrics
        checkpoint.save(self._directory.checkpoints, Checkpoint(step, state))
        write_peft(adapter, self._directory.adapters / "last")

    def _report_missing(self, step: int) -> None:
        """A checkpoint answers for the metrics before it, unless somebody changed the file."""
        there = {row["step"] for row in self._directory.metrics()}
        if missing := [str(i) for i in range(step) if i not in there]:
            log.warning("%s lacks %d steps, the first %s", self._directory.metrics_file, len(missing), missing[0])

    def _best_score(self) -> float:
        scores = (self._score(row) for row in self._directory.metrics())
        return max((score for score in scores if score is not None), default=-math.inf)

    def _write_samples(self, step: int, split: str, groups: Sequence[Group]) -> None:
        append_objects(self._directory.samples_file, sample_rows(step, split, groups)[: self._max_samples])


FIXED = ("model.name", "lora.")
"""Settings that say which policy a checkpoint is."""


def _is_fixed(name: str) -> bool:
    return name.startswith(FIXED)


def in_words(changes: Changes) -> list[str]:
    """Return a line for each."""
    return [f"{name} is {new} from now on, and was {old}" for name, (old, new) in changes.items()]


def _changes(old: RunConfig, new: RunConfig) -> Changes:
    """The settings that differ, by their dotted names."""
    before, after = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    names = dict.fromkeys((*before, *after))
    found = {name: (before.get(name, "not there"), after.get(name, "not there")) for name in names}
    return {name: values for name, values in found.items() if values[0] != values[1]}


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Values as JSON, by their dotted names."""
    found: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found |= _flat(cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = json.dumps(value)
    return found


def sample_rows(step: int, split: str, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """One object a completion: the question, what was written, and its grade."""
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
        }
        for group in groups
        for completion, reward in zip(group.completions, group.rewards, strict=True)
    ]
