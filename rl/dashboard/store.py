"""The runs of a cluster, on the disk of the node that shows them, so that finished ones stay."""

import io
import json
import re
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rl.dashboard.thin import spaced
from rl.dashboard.types import News, Row, RunInfo, State
from rl.jsonl import append_objects, read_metrics

SILENT_AFTER = 60.0
"""Seconds without news after which a running run counts as silent."""

ACCURACY, LOG_LOSS = "eval/accuracy", "eval/log_loss"
SWEEPS = ".sweeps"
"""The directory of their results; no run's name begins with a dot."""
MOST_POINTS = 20_000
"""On the curves of all runs together: they are asked for every few seconds."""
ROWS_KEPT = 4
"""Runs whose rows are kept in memory; those of the others are read when somebody looks at them."""


@dataclass(slots=True)
class Outline:
    """What the list of all runs says of a run's rows."""

    count: int = 0
    started: float | None = None
    step: int = 0
    curve: list[list[float]] = field(default_factory=list[list[float]])
    """Step, time and held-out accuracy of each evaluation."""
    loss: list[list[float]] = field(default_factory=list[list[float]])
    """Step, time and held-out log-loss, in nats a token, of each evaluation of a supervised run."""

    def add(self, rows: Sequence[Row]) -> "Outline":
        for row in rows:
            when = row.get("time", 0.0)
            self.started = when if self.started is None else self.started
            self.step = row["step"]
            self.count += 1
            for curve, metric in ((self.curve, ACCURACY), (self.loss, LOG_LOSS)):
                if metric in row:
                    curve.append([row["step"], when, row[metric]])
        return self


@dataclass(slots=True)
class RunRecord:
    """One run as it is known so far. Its rows are in its file."""

    id: str
    info: RunInfo
    outline: Outline = field(default_factory=Outline)
    samples: list[Row] = field(default_factory=list[Row])
    state: State = "running"
    heard: float = field(default_factory=time.time)

    def summary(self, points: int = MOST_POINTS) -> dict[str, Any]:
        """What the list of all runs and the plot of their accuracy need; at most that many points of the curve."""
        silent = self.state == "running" and time.time() - self.heard > SILENT_AFTER
        curve, loss = self.outline.curve, self.outline.loss
        return {
            "id": self.id,
            **self.info.to_json(),
            "state": "silent" if silent else self.state,
            "started": self.heard if self.outline.started is None else self.outline.started,
            "heard": self.heard,
            "step": self.outline.step,
            "best": max((accuracy for *_, accuracy in curve), default=None),
            "curve": spaced(curve, points),
            "least": min((nats for *_, nats in loss), default=None),
            "loss": spaced(loss, points),
        }


class RunStore:
    """All runs, read from and kept in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._runs = {record.id: record for record in self._read()}
        self._rows: dict[str, list[Row]] = {}

    def begin(self, info: RunInfo) -> str:
        """The id under which to tell this run's news; a run that is resumed gets the one it had."""
        for record in self._runs.values():
            if record.info.place == info.place:
                record.info, record.state, record.heard = info, "running", time.time()
                self._describe(record)
                return record.id
        record = RunRecord(self._free_id(info.name), info)
        self._runs[record.id] = record
        self._describe(record)
        return record.id

    def tell(self, run: str, news: News) -> int:
        """Take in news; how many rows are known then, so that a teller can see what has to be told again."""
        record = self._runs[run]
        if news.first_row > record.outline.count:  # something before it was lost
            return record.outline.count
        record.samples = list(news.samples) or record.samples
        record.state, record.heard = news.state, time.time()
        for name, content in news.adapter.items():
            path = self._directory / run / "adapter" / Path(name).name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        self._describe(record)
        if record.outline.count > news.first_row:
            kept = [*self.rows(run)[: news.first_row], *news.rows]
            _replace(self._metrics_file(run), "".join(json.dumps(row) + "\n" for row in kept))
            record.outline = Outline().add(kept)
            self._rows[run] = kept
        else:
            append_objects(self._metrics_file(run), news.rows)
            record.outline.add(news.rows)
            if run in self._rows:
                self._rows[run].extend(news.rows)
        return record.outline.count

    def summaries(self) -> list[dict[str, Any]]:
        """Of all runs, the latest first."""
        records = sorted(self._runs.values(), key=lambda record: -record.heard)
        points = max(50, MOST_POINTS // max(1, len(records)))
        return [record.summary(points) for record in records]

    def record(self, run: str) -> RunRecord | None:
        return self._runs.get(run)

    def known(self, run: str) -> int:
        """How many rows of a run there are."""
        return self._runs[run].outline.count

    def rows(self, run: str) -> Sequence[Row]:
        """A run's metrics, one row a step."""
        rows = self._rows.pop(run, None)
        self._rows[run] = rows = list(read_metrics(self._metrics_file(run))) if rows is None else rows
        while len(self._rows) > ROWS_KEPT:
            del self._rows[next(iter(self._rows))]
        return rows

    def keep(self, job: str, results: bytes) -> None:
        """What a job's sweep has found so far, in place of what it had found before."""
        file = self._sweep_file(job)
        file.parent.mkdir(exist_ok=True)
        _replace(file, results.decode())

    def kept(self, job: str) -> bytes | None:
        """What `keep` kept of a job."""
        file = self._sweep_file(job)
        return file.read_bytes() if file.exists() else None

    def adapter_zip(self, run: str) -> bytes | None:
        """The best adapter's files, if there is one."""
        files = sorted((self._directory / run / "adapter").glob("*"))
        if not files:
            return None
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for file in files:
                archive.write(file, file.name)
        return packed.getvalue()

    def _sweep_file(self, job: str) -> Path:
        return self._directory / SWEEPS / f"{_plain(job)}.json"

    def _metrics_file(self, run: str) -> Path:
        return self._directory / run / "metrics.jsonl"

    def _free_id(self, name: str) -> str:
        plain = _plain(name)
        taken, count, free = self._runs, 2, plain
        while free in taken:
            free, count = f"{plain}-{count}", count + 1
        return free

    def _describe(self, record: RunRecord) -> None:
        place = self._directory / record.id
        place.mkdir(exist_ok=True)
        about = {"info": record.info.to_json(), "state": record.state, "heard": record.heard, "samples": record.samples}
        _replace(place / "run.json", json.dumps(about))

    def _read(self) -> Iterator[RunRecord]:
        for place in sorted(self._directory.iterdir()):
            try:
                about = json.loads((place / "run.json").read_text())
                outline = Outline().add(_mended(place / "metrics.jsonl"))
                info = RunInfo(**about["info"])
            except (OSError, ValueError, KeyError, TypeError):
                continue  # half-written by a kill: its teller begins it anew
            yield RunRecord(place.name, info, outline, about["samples"], about["state"], about["heard"])


def _plain(name: str) -> str:
    """A name as it may stand in a path and in an address."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name).lstrip(".") or "run"


def _mended(file: Path) -> list[Row]:
    """The rows of a file, without the one that a kill has cut off: the next would be appended to it."""
    rows = list(read_metrics(file))
    if file.exists() and not file.read_bytes().endswith(b"\n"):
        _replace(file, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def _replace(path: Path, text: str) -> None:
    scratch = path.with_suffix(".tmp")
    scratch.write_text(text)
    scratch.replace(path)
