"""A run as a directory: its kind, its configuration, metrics, samples, adapters, checkpoints, and the curve."""

import json
import logging
import shutil
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lora.files import atomic_write as durable
from lora.files.atomic_write import write_atomic
from lora.files.ordinary_file import require_directory, require_file
from rl.config import RunConfig
from rl.run import checkpoint
from rl.run.changes import Changes, changes_between, in_words, is_fixed
from rl.run.directory_lock import locked, outside_a_sweep
from rl.run.jsonl import is_metrics, is_row, read_metrics, read_samples, warn_of_others
from rl.run.kind import Kind, guess_kind, read_kind, write_kind
from rl.settings.toml import dump_config, load_config

log = logging.getLogger(__name__)


class RunDirectory:
    """The files of one run, and what is read back from them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics_file = path / "metrics.jsonl"
        self.samples_file = path / "samples.jsonl"
        self.adapters = path / "adapters"
        self.checkpoints = path / "checkpoints"
        self.tensorboard = path / "tensorboard"

    @classmethod
    def create(cls, path: Path, config: RunConfig, kind: Kind = "train") -> "RunDirectory":
        """Make a new run's directory, with its kind and the resolved configuration in it.

        Raises:
            ValueError: there is a run in it already, or it cannot be written.
        """
        if holds_run(path):
            raise ValueError(f"{path} holds a run already; continue it with --resume, or choose another --out")
        try:
            path.mkdir(parents=True, exist_ok=True)
            check_kinds(path)
            write_kind(path, kind)
            write_atomic(path / "config.toml", dump_config(config).encode())
        except OSError as error:
            raise ValueError(
                f"cannot write the run directory {path}: {error.strerror}; choose another --out"
            ) from error
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Return the directory of a run. Raises ValueError if there is none."""
        if not holds_run(path):
            raise ValueError(f"{path} holds no run: it has no config.toml")
        return cls(path)

    @property
    def kind(self) -> Kind | None:
        """Return the command that the run was begun with; None if it did not get far enough to tell.

        Raises:
            ValueError: this version does not know it.
        """
        return read_kind(self.path) or guess_kind(self.metrics())

    def require_kind(self, kind: Kind) -> None:
        """See that the run may go on as one of this kind, and write that down where it was not.

        Raises:
            ValueError: it was begun with another command.
        """
        if self.kind not in (None, kind):
            raise ValueError(f"{self.path} holds a run of `rankone {self.kind}`, which goes on with that command")
        if read_kind(self.path) is None:
            write_kind(self.path, kind)

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
        """Go on with this configuration from now on; return what is different, in words.

        Raises:
            ValueError: with it, the checkpoints would be another policy's.
        """
        changes = self.changes(config)
        if fixed := [f"{name} is {new}, and was {old}" for name, (old, new) in changes.items() if is_fixed(name)]:
            raise ValueError(
                f"{self.path} cannot go on as another policy: {'; '.join(fixed)}; choose another --out, or leave it as "
                "it was"
            )
        if "steps_in_flight" in changes and config.steps_in_flight is None:
            self._require_none_in_flight()
        self.write_config(config)
        return in_words(changes)

    def _require_none_in_flight(self) -> None:
        """Raises ValueError if the newest checkpoint has problems in flight, which the order of draws passes over."""
        newest = checkpoint.newest(self.checkpoints)
        if newest is not None and newest.unlearned:
            raise ValueError(
                f"{self.path} cannot go on without steps_in_flight: {len(newest.unlearned)} of its problems were begun "
                "and not learned from, and later ones were; set steps_in_flight (1 begins none ahead of a step), or "
                "choose another --out"
            )

    def changes(self, config: RunConfig) -> Changes:
        """Return the settings in which this configuration differs from the run's; none if that cannot be told."""
        try:
            return changes_between(load_config(self.path / "config.toml"), config)
        except ValueError as error:
            log.warning("it cannot be told whether the settings have changed: %s", error)
            return {}

    def write_config(self, config: RunConfig) -> None:
        """Write down that the run has this configuration from now on."""
        write_atomic(self.path / "config.toml", dump_config(config).encode())

    def metrics(self) -> list[dict[str, Any]]:
        """Return an object for each step, in order."""
        return list(read_metrics(self.metrics_file))

    def curve(self, metric: str = "eval/accuracy") -> list[tuple[int, float]]:
        """Return a metric by step, of those steps that have it."""
        return [(row["step"], row[metric]) for row in self.metrics() if metric in row]

    def remove_scratch(self) -> None:
        """Remove what a kill left half-written."""
        for place, names in ((self.path, ".*.*-*"), (self.adapters, "**/.*"), (self.checkpoints, ".*")):
            for scratch in list(place.glob(names)):
                if scratch.is_dir():
                    shutil.rmtree(scratch, ignore_errors=True)
                else:
                    scratch.unlink(missing_ok=True)

    def truncate_from(self, step: int) -> None:
        """Drop what was written about `step` and later ones, which are about to be done again.

        Lines about no step are dropped too, and the log says so.
        """
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


FILES = ("run.json", "config.toml", "metrics.jsonl", "samples.jsonl", ".lock", "curve.png")
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
    """Raises ValueError if something else, such as a FIFO or a dead link, has the name of a run's file or directory."""
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
