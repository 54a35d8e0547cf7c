"""Tells the cluster's page host what happens in a run. Nothing here can slow a step down or stop a run."""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from rl.dashboard.host import find_host
from rl.dashboard.types import News, Row, RunInfo, State
from rl.evaluate import Evaluation
from rl.run_directory import RunDirectory, sample_rows
from rl.sinks import Ended, Sink
from rl.types import Group

log = logging.getLogger(__name__)

BEAT_S = 5.0
"""News are told this often at least, though there are none: a run that is silent for a minute is shown as that."""
PATIENCE_S = 10.0
NUM_SAMPLES = 16
NO_PAGE = "this cluster has no page of curves: start it with `rankone up`, or run `rankone page` on its head"


def keep_on_page(job: str, results: bytes) -> None:
    """Give the page what a job's sweep has found so far, to be fetched from there; nothing if it is no job, or there is
    no page."""
    if not job or not ray.is_initialized():
        return
    try:
        host = find_host()
        if host is not None:
            ray.get(host.keep.remote(job, results), timeout=PATIENCE_S)
    except (RayError, TimeoutError) as error:
        log.warning("the page host does not keep the sweep's results: %s", str(error).splitlines()[0])


class PageTeller(Sink):
    """Keeps what was not told yet; a thread of its own tells it."""

    def __init__(self, info: RunInfo, directory: RunDirectory) -> None:
        self._info = info
        self._best = directory.adapters / "best"
        self._rows: list[Row] = list(directory.metrics())
        self._samples: deque[Row] = deque(maxlen=NUM_SAMPLES)
        self._state: State = "running"
        self._told = 0
        self._adapter_told = 0.0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._tell_for_ever, name="page-teller", daemon=True)
        self._thread.start()

    def evaluated(self, step: int, evaluation: Evaluation) -> None:
        with self._lock:
            self._samples.extend(sample_rows(step, "held out", evaluation.groups)[: NUM_SAMPLES // 2])

    def stepped(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        with self._lock:
            while self._rows and self._rows[-1]["step"] >= step:  # done again, after a restart of the learner
                self._rows.pop()
            self._told = min(self._told, len(self._rows))
            self._rows.append({"step": step, "time": time.time(), **metrics})
            self._samples.extend(row for group in groups[:4] for row in sample_rows(step, "train", [group])[:2])
        self._wake.set()

    def close(self, ended: Ended = "finished") -> None:
        self._state = ended
        self._wake.set()
        self._thread.join(PATIENCE_S)

    def _tell_for_ever(self) -> None:
        found: tuple[Any, str] | None = None
        warned = False
        while True:
            last = self._state != "running"
            try:
                found = found or self._begin()
                if found is None:
                    log.info(NO_PAGE)
                    return
                self._tell(*found)
                warned = False
            except (RayError, KeyError, TimeoutError) as error:
                found = None  # it may come back, with or without what it knew
                if not warned:
                    log.warning("the page host does not answer; trying on: %s", str(error).splitlines()[0])
                    warned = True
            if last:
                return
            self._wake.wait(BEAT_S)
            self._wake.clear()

    def _begin(self) -> tuple[Any, str] | None:
        """The host and what it calls this run; None if the cluster has no host."""
        host = find_host()
        if host is None:
            return None
        run, known = ray.get(host.begin.remote(self._info), timeout=PATIENCE_S)
        with self._lock:
            self._told, self._adapter_told = 0 if known > len(self._rows) else min(known, self._told), 0.0
        return host, run

    def _tell(self, host: Any, run: str) -> None:
        with self._lock:
            first, rows = self._told, self._rows[self._told :]
            changed, adapter = self._new_adapter()
            news = News(first, rows, list(self._samples), self._state, adapter)
        known = ray.get(host.tell.remote(run, news), timeout=PATIENCE_S)
        with self._lock:
            self._told, self._adapter_told = min(known, first + len(rows), self._told + len(rows)), changed

    def _new_adapter(self) -> tuple[float, dict[str, bytes]]:
        """The best adapter's files, if they changed since they were told, and when they did."""
        try:
            changed = (self._best / "adapter_model.safetensors").stat().st_mtime
            if changed == self._adapter_told:
                return changed, {}
            return changed, {file.name: file.read_bytes() for file in sorted(self._best.iterdir())}
        except OSError:  # none yet, or it is being replaced at this moment
            return self._adapter_told, {}
