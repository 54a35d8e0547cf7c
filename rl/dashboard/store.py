"""The runs of a cluster, on the disk of the node that shows them, so that finished ones stay."""

import io
import json
import re
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rl.dashboard.types import News, Row, RunInfo, State
from rl.jsonl import append_objects, read_objects

SILENT_AFTER = 60.0
"""Seconds without news after which a running run counts as silent."""

CURVE = ("step", "time", "eval/accuracy")


@dataclass(slots=True)
class RunRecord:
    """One run as it is known so far."""

    id: str
    info: RunInfo
    rows: list[Row] = field(default_factory=list[Row])
    samples: list[Row] = field(default_factory=list[Row])
    state: State = "running"
    heard: float = field(default_factory=time.time)

    def summary(self) -> dict[str, Any]:
        """What the list of all runs and the plot of their accuracy need."""
        curve = [[row[name] for name in CURVE] for row in self.rows if "eval/accuracy" in row]
        silent = self.state == "running" and time.time() - self.heard > SILENT_AFTER
        return {
            "id": self.id,
            **self.info.to_json(),
            "state": "silent" if silent else self.state,
            "started": self.rows[0]["time"] if self.rows else self.heard,
            "heard": self.heard,
            "step": self.rows[-1]["step"] if self.rows else 0,
            "curve": curve,
        }


class RunStore:
    """All runs, read from and kept in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._runs = {record.id: record for record in self._read()}

    def begin(self, info: RunInfo) -> str:
        """The id under which to tell this run's news; a run that is resumed gets the one it had."""
        for record in self._runs.values():
            if record.info.place == info.place:
                record.info, record.state, record.heard = info, "running", time.time()
                self._write(record, rows=False)
                return record.id
        record = RunRecord(self._free_id(info.name), info)
        self._runs[record.id] = record
        self._write(record)
        return record.id

    def tell(self, run: str, news: News) -> int:
        """Take in news; how many rows are known then, so that a teller can see what has to be told again."""
        record = self._runs[run]
        if news.first_row > len(record.rows):  # something before it was lost
            return len(record.rows)
        rewritten = len(record.rows) > news.first_row
        record.rows[news.first_row :] = news.rows
        record.samples = list(news.samples) or record.samples
        record.state, record.heard = news.state, time.time()
        for name, content in news.adapter.items():
            path = self._directory / run / "adapter" / Path(name).name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        if rewritten:
            self._write(record)
        else:
            self._write(record, rows=False)
            append_objects(self.metrics_file(run), news.rows)
        return len(record.rows)

    def records(self) -> list[RunRecord]:
        """All of them, the latest first."""
        return sorted(self._runs.values(), key=lambda record: -record.heard)

    def record(self, run: str) -> RunRecord | None:
        return self._runs.get(run)

    def metrics_file(self, run: str) -> Path:
        return self._directory / run / "metrics.jsonl"

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

    def _free_id(self, name: str) -> str:
        plain = re.sub(r"[^A-Za-z0-9_.-]", "-", name).lstrip(".") or "run"
        taken, count, free = self._runs, 2, plain
        while free in taken:
            free, count = f"{plain}-{count}", count + 1
        return free

    def _write(self, record: RunRecord, *, rows: bool = True) -> None:
        place = self._directory / record.id
        place.mkdir(exist_ok=True)
        about = {"info": record.info.to_json(), "state": record.state, "heard": record.heard, "samples": record.samples}
        _replace(place / "run.json", json.dumps(about))
        if rows:
            _replace(place / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in record.rows))

    def _read(self) -> Iterator[RunRecord]:
        for place in sorted(self._directory.iterdir()):
            try:
                about = json.loads((place / "run.json").read_text())
                rows = list(read_objects(place / "metrics.jsonl"))
                info = RunInfo(**about["info"])
            except (OSError, ValueError, KeyError, TypeError):
                continue  # half-written by a kill: its teller begins it anew
            yield RunRecord(place.name, info, rows, about["samples"], about["state"], about["heard"])


def _replace(path: Path, text: str) -> None:
    scratch = path.with_suffix(".tmp")
    scratch.write_text(text)
    scratch.replace(path)
