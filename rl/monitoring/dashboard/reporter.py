"""Tells the cluster's page host what happens in a run. Nothing here can slow a step down or stop a run."""

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import ray
from ray.exceptions import RayError

from lora.ordinary_file import read_file
from rl.algorithm.evaluate import Evaluation
from rl.monitoring.dashboard.host import find_host
from rl.monitoring.dashboard.types import Row, RunInfo, RunUpdate, State
from rl.run.directory import RunDirectory
from rl.run.journal import sample_rows
from rl.run.jsonl import read_metrics
from rl.run.sinks import Ended, Sink
from rl.types import Group

log = logging.getLogger(__name__)

BEAT_S = 5.0
"""News are told this often at least, though there are none: a run that is silent for a minute is shown as that."""
PATIENCE_S = 10.0
NUM_SAMPLES = 16
ROWS_KEPT = 256
"""In memory, while they wait to be told: more are waiting only where nobody has answered for long."""
NO_PAGE = "this cluster has no page of curves: start it with `rankone up`, or run `rankone page` on its head"


_SAYING = threading.Lock()
"""Whoever says that there is no page takes it, and keeps it."""


def _say_there_is_no_page() -> None:
    """Once, however many runs a sweep has; a cluster of the run's own has none, and needs none."""
    if os.environ.get("RAY_ADDRESS", "local") != "local" and _SAYING.acquire(blocking=False):
        log.info(NO_PAGE)


def store_on_page(job: str, results: bytes) -> None:
    """Give the page what a job's sweep has found so far, to be fetched from there; nothing if it is no job, or there is
    no page."""
    if not job or not ray.is_initialized():
        return
    try:
        host = find_host()
        if host is not None:
            ray.get(host.store_sweep.remote(job, results), timeout=PATIENCE_S)
    except (RayError, TimeoutError) as error:
        log.warning("the page host does not keep the sweep's results: %s", str(error).splitlines()[0])


class DashboardReporter(Sink):
    """Keeps what was not told yet; a thread of its own tells it. What has to be told again is in the run's files."""

    def __init__(self, info: RunInfo, directory: RunDirectory) -> None:
        self._info = info
        self._best = directory.adapters / "best"
        self._metrics_file = directory.metrics_file
        self._untold: deque[Row] = deque(maxlen=ROWS_KEPT)
        self._last, self._count = self._written()
        self._nobody_listens = False
        self._samples: deque[Row] = deque(maxlen=NUM_SAMPLES)
        self._state: State = "running"
        self._told = 0
        self._adapter_told = 0.0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._push_forever, name="page-teller", daemon=True)
        self._thread.start()

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        with self._lock:
            self._samples.extend(sample_rows(step, "held out", evaluation.groups)[: NUM_SAMPLES // 2])

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        if self._nobody_listens:
            return
        with self._lock:
            if step <= self._last:  # done again, after a restart of the learner
                self._untold.clear()
                _, self._count = self._written(before=step)
                self._told = min(self._told, self._count)
            self._untold.append({"step": step, "time": time.time(), **metrics})
            self._last, self._count = step, self._count + 1
            self._samples.extend(row for group in groups[:4] for row in sample_rows(step, "train", [group])[:2])
        self._wake.set()

    def close(self, ended: Ended = "finished") -> None:
        self._state = ended
        self._wake.set()
        self._thread.join(PATIENCE_S)

    def _push_forever(self) -> None:
        found: tuple[Any, str] | None = None
        warned = False
        while True:
            last = self._state != "running"
            try:
                found = found or self._begin()
                if found is None:
                    _say_there_is_no_page()
                    self._nobody_listens = True
                    self._untold.clear()
                    return
                self._push(*found)
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
        run, known = ray.get(host.register.remote(self._info), timeout=PATIENCE_S)
        with self._lock:
            self._told, self._adapter_told = 0 if known > self._count else min(known, self._told), 0.0
        return host, run

    def _push(self, host: Any, run: str) -> None:
        with self._lock:
            first, rows = self._told, self._since(self._told)
            changed, adapter = self._new_adapter()
            news = RunUpdate(first, rows, list(self._samples), self._state, adapter)
        known: int = ray.get(host.push.remote(run, news), timeout=PATIENCE_S)
        with self._lock:
            self._told, self._adapter_told = min(known, first + len(rows), self._told + len(rows)), changed
            for _ in range(min(len(self._untold), self._told - (self._count - len(self._untold)))):
                self._untold.popleft()

    def _since(self, first: int) -> list[Row]:
        """The rows from that one on."""
        kept = self._count - len(self._untold)
        if first >= kept:
            return list(self._untold)[first - kept :]
        return list(islice(read_metrics(self._metrics_file), first, self._count))

    def _written(self, before: float = math.inf) -> tuple[int, int]:
        """The last step before that one in the run's files, or -1, and how many there are."""
        steps = [row["step"] for row in read_metrics(self._metrics_file) if row["step"] < before]
        return max(steps, default=-1), len(steps)

    def _new_adapter(self) -> tuple[float, dict[str, bytes]]:
        """The best adapter's files, if they changed since they were told, and when they did."""
        try:
            changed = (self._best / "adapter_model.safetensors").stat().st_mtime
            if changed == self._adapter_told:
                return changed, {}
            return changed, {file.name: read_file(file) for file in sorted(self._best.iterdir())}
        except OSError:  # none yet, or it is being replaced at this moment
            return self._adapter_told, {}
