"""The runs of a cluster in an SQLite file on the disk of the node that shows them, so that finished ones stay."""

import io
import json
import logging
import re
import sqlite3
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rl.monitoring.dashboard.downsample import subsample
from rl.monitoring.dashboard.types import Row, RunInfo, RunUpdate, State

log = logging.getLogger(__name__)

SILENT_AFTER_S = 60.0
"""A run that says it is running and sent no update for this long counts as silent."""
ACCURACY, LOG_LOSS = "eval/accuracy", "eval/log_loss"
TRAIN_LOSS = "train/loss"
"""Loss of what a server's client trained on; what it holds out, the server does not know."""
MOST_POINTS = 20_000
"""Most points on the curves of all runs together: they are requested every few seconds."""
FILE = "runs.sqlite3"
SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, run_path TEXT UNIQUE NOT NULL, info TEXT NOT NULL, state TEXT NOT NULL, heard REAL NOT NULL,
    samples TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS steps (
    run TEXT NOT NULL, number INTEGER NOT NULL, step INTEGER NOT NULL, time REAL NOT NULL, accuracy REAL, log_loss REAL,
    metrics TEXT NOT NULL, PRIMARY KEY (run, number)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS evaluations ON steps (run, number, step, time, accuracy, log_loss)
    WHERE accuracy IS NOT NULL OR log_loss IS NOT NULL;
CREATE TABLE IF NOT EXISTS adapter_files (
    run TEXT NOT NULL, name TEXT NOT NULL, content BLOB NOT NULL, PRIMARY KEY (run, name)
);
CREATE TABLE IF NOT EXISTS sweeps (job TEXT PRIMARY KEY, results BLOB NOT NULL);
"""


@dataclass(slots=True)
class RunSummary:
    """The figures of a run's rows in the list of all runs."""

    count: int = 0
    started: float | None = None
    step: int = 0
    curve: list[list[float]] = field(default_factory=list[list[float]])
    """Step, time and held-out accuracy of each evaluation."""
    loss: list[list[float]] = field(default_factory=list[list[float]])
    """Step, time and loss, in nats a token: held out, at evaluations; or at each step of a server."""

    def add(self, rows: Sequence[Row]) -> "RunSummary":
        for row in rows:
            when = row.get("time", 0.0)
            self.started = when if self.started is None else self.started
            self.step = row["step"]
            self.count += 1
            for curve, value in ((self.curve, row.get(ACCURACY)), (self.loss, _loss(row))):
                if value is not None:
                    curve.append([row["step"], when, value])
        return self


@dataclass(slots=True)
class RunRecord:
    """One run as it is known so far, but for its rows."""

    id: str
    info: RunInfo
    outline: RunSummary = field(default_factory=RunSummary)
    samples: list[Row] = field(default_factory=list[Row])
    state: State = "running"
    heard: float = field(default_factory=time.time)

    def summary(self, points: int = MOST_POINTS) -> dict[str, Any]:
        """Return what the list of runs and the plot of their accuracy need; at most that many points of the curve."""
        silent = self.state == "running" and time.time() - self.heard > SILENT_AFTER_S
        curve, loss = self.outline.curve, self.outline.loss
        return {
            "id": self.id,
            **self.info.to_json(),
            "state": "silent" if silent else self.state,
            "started": self.heard if self.outline.started is None else self.outline.started,
            "heard": self.heard,
            "step": self.outline.step,
            "best": max((accuracy for *_, accuracy in curve), default=None),
            "curve": subsample(curve, points),
            "least": min((nats for *_, nats in loss), default=None),
            "loss": subsample(loss, points),
        }


class RunStore:
    """Keeps all runs in `directory`. One process writes to it, from any of its threads, one at a time."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._database = _open(directory / FILE)

    def close(self) -> None:
        self._database.close()

    def register(self, info: RunInfo) -> str:
        """Return the id under which to send this run's updates; a run that is resumed gets the one it had."""
        with self._database as database:
            stored = database.execute("SELECT id FROM runs WHERE run_path = ?", (info.run_path,)).fetchone()
            run: str = stored[0] if stored else self._free_id(info.name)
            database.execute(
                "INSERT INTO runs VALUES (?, ?, ?, 'running', ?, '[]') ON CONFLICT (id) DO UPDATE "
                "SET info = excluded.info, state = excluded.state, heard = excluded.heard",
                (run, info.run_path, json.dumps(info.to_json()), time.time()),
            )
        return run

    def apply(self, run: str, update: RunUpdate) -> int:
        """Apply an update; return the number of rows stored, from which the reporter continues.

        Raises:
            KeyError: no run has that id.
        """
        stored = self.known(run)
        if update.first_row > stored:  # something before it was lost
            return stored
        with self._database as database:
            database.execute("DELETE FROM steps WHERE run = ? AND number >= ?", (run, update.first_row))
            numbered = enumerate(update.rows, update.first_row)
            database.executemany(
                "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?)",
                (_fields(run, n, row) for n, row in numbered),
            )
            files = ((run, Path(name).name, content) for name, content in update.adapter.items())
            database.executemany("INSERT OR REPLACE INTO adapter_files VALUES (?, ?, ?)", files)
            database.execute("UPDATE runs SET state = ?, heard = ? WHERE id = ?", (update.state, time.time(), run))
            if update.samples:
                database.execute("UPDATE runs SET samples = ? WHERE id = ?", (json.dumps(list(update.samples)), run))
        return update.first_row + len(update.rows)

    def summaries(self) -> list[dict[str, Any]]:
        """Return what the list of all runs needs, the run that was heard of last first."""
        runs = self._database.execute("SELECT id, info, state, heard FROM runs ORDER BY heard DESC").fetchall()
        points = max(50, MOST_POINTS // max(1, len(runs)))
        return [self._record(*run, samples="[]").summary(points) for run in runs]

    def record(self, run: str) -> RunRecord | None:
        """Return a run, or None if there is none with that id."""
        fields = self._database.execute(
            "SELECT id, info, state, heard, samples FROM runs WHERE id = ?", (run,)
        ).fetchone()
        return self._record(*fields) if fields else None

    def known(self, run: str) -> int:
        """Return how many rows of a run are stored. Raises KeyError if no run has that id."""
        if self._database.execute("SELECT 1 FROM runs WHERE id = ?", (run,)).fetchone() is None:
            raise KeyError(run)
        return self._outline_numbers(run)[0]

    def rows(self, run: str) -> Sequence[Row]:
        """Return a run's metrics, one row a step."""
        stored = self._database.execute("SELECT metrics FROM steps WHERE run = ? ORDER BY number", (run,))
        return [json.loads(metrics) for (metrics,) in stored]

    def store_sweep(self, job: str, results: bytes) -> None:
        """Store what a job's sweep has found so far, in place of what it had found before."""
        with self._database as database:
            database.execute("INSERT OR REPLACE INTO sweeps VALUES (?, ?)", (job, results))

    def sweep_results(self, job: str) -> bytes | None:
        """Return what a job's sweep has found, if it has sent anything."""
        row = self._database.execute("SELECT results FROM sweeps WHERE job = ?", (job,)).fetchone()
        return row[0] if row else None

    def adapter_zip(self, run: str) -> bytes | None:
        """Return the best adapter's files as one archive, if there is one."""
        files = self._database.execute(
            "SELECT name, content FROM adapter_files WHERE run = ? ORDER BY name", (run,)
        ).fetchall()
        if not files:
            return None
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, content in files:
                archive.writestr(name, content)
        return packed.getvalue()

    def _record(self, run: str, info: str, state: State, heard: float, samples: str) -> RunRecord:
        return RunRecord(run, RunInfo(**json.loads(info)), self._outline(run), json.loads(samples), state, heard)

    def _outline(self, run: str) -> RunSummary:
        count, started, step = self._outline_numbers(run)
        evaluations = self._database.execute(
            "SELECT step, time, accuracy, log_loss FROM steps "
            "WHERE run = ? AND (accuracy IS NOT NULL OR log_loss IS NOT NULL) ORDER BY number",
            (run,),
        ).fetchall()
        curve = [[step, when, accuracy] for step, when, accuracy, _ in evaluations if accuracy is not None]
        loss = [[step, when, nats] for step, when, _, nats in evaluations if nats is not None]
        return RunSummary(count, started, step, curve, loss)

    def _outline_numbers(self, run: str) -> tuple[int, float | None, int]:
        """Return how many rows a run has, when its first was written, and its last step. Rows are numbered from 0."""
        ends = "SELECT number, time, step FROM steps WHERE run = ? ORDER BY number {} LIMIT 1"
        first = self._database.execute(ends.format("ASC"), (run,)).fetchone()
        last = self._database.execute(ends.format("DESC"), (run,)).fetchone()
        return (last[0] + 1, first[1], last[2]) if first else (0, None, 0)

    def _free_id(self, name: str) -> str:
        plain = _plain(name)
        taken = {run for (run,) in self._database.execute("SELECT id FROM runs")}
        count, free = 2, plain
        while free in taken:
            free, count = f"{plain}-{count}", count + 1
        return free


def _open(file: Path) -> sqlite3.Connection:
    """Open the database; one that is damaged is put aside, because a page without history is better than none."""
    try:
        return _connect(file)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # a full disk, a directory that cannot be written
            raise
        aside = file.with_name(f"{file.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        log.warning("the page begins anew: %s is damaged (%s), and is now %s", file, error, aside.name)
        file.rename(aside)
        for suffix in ("-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        return _connect(file)


def _connect(file: Path) -> sqlite3.Connection:
    # Ray makes an actor in one thread and calls it in another.
    database = sqlite3.connect(file, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")  # a kill in the middle of an update leaves the one before
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(SCHEMA)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _fields(run: str, number: int, row: Row) -> tuple[Any, ...]:
    return run, number, row["step"], row.get("time", 0.0), row.get(ACCURACY), _loss(row), json.dumps(row)


def _loss(row: Row) -> float | None:
    return row.get(LOG_LOSS, row.get(TRAIN_LOSS))


def _plain(name: str) -> str:
    """Return a name as it may stand in an address and a file's name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name).lstrip(".") or "run"
