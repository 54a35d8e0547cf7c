"""Reports a run to the cluster's page host. Nothing here can slow a step down or stop a run."""

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from lora.messages import first_line
from lora.ordinary_file import read_file
from rl.algorithm.evaluate import Evaluation
from rl.monitoring.dashboard.host import find_host
from rl.monitoring.dashboard.types import Row, RunInfo, RunUpdate, State
from rl.run.directory import RunDirectory
from rl.run.journal import sample_rows
from rl.run.metrics_tail import MetricsTail
from rl.run.sinks import Ended, Sink
from rl.types import Group

log = logging.getLogger(__name__)

BEAT_S = 5.0
"""Updates are sent at least this often, even empty ones: a run that is silent for a minute is shown as silent."""
PATIENCE_S = 10.0
NUM_SAMPLES = 16
NO_PAGE = "this cluster has no page of curves: start it with `rankone up`, or run `rankone page` on its head"


_NO_PAGE_LOGGED = threading.Lock()
"""Taken, and kept, by the first run that logs that there is no page."""


def _log_no_page() -> None:
    """Log once, however many runs a sweep has, that there is no page. A run's own cluster has none, and needs none."""
    if os.environ.get("RAY_ADDRESS", "local") != "local" and _NO_PAGE_LOGGED.acquire(blocking=False):
        log.info(NO_PAGE)


def store_on_page(job: str, results: bytes) -> None:
    """Send the page what a job's sweep has found so far, to be fetched from there.

    Does nothing outside a job, or without a page.
    """
    if not job or not ray.is_initialized():
        return
    try:
        host = find_host()
        if host is not None:
            ray.get(host.store_sweep.remote(job, results), timeout=PATIENCE_S)
    except (RayError, TimeoutError) as error:
        log.warning("the page host does not keep the sweep's results: %s", first_line(error))


class DashboardReporter(Sink):
    """Sends the rows of the run's file of metrics from a thread of its own, again if the host has lost them."""

    def __init__(self, info: RunInfo, directory: RunDirectory) -> None:
        self._info = info
        self._best = directory.adapters / "best"
        self._rows = MetricsTail(directory.metrics_file)
        self._no_page = False
        self._samples: deque[Row] = deque(maxlen=NUM_SAMPLES)
        self._state: State = "running"
        self._adapter_sent = 0.0
        """When the adapter that the host has was written."""
        self._lock = threading.Lock()
        """Held by whoever reads or adds samples."""
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._push_forever, name="dashboard-reporter", daemon=True)
        self._thread.start()

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        self._add_samples(sample_rows(step, "held out", evaluation.groups)[: NUM_SAMPLES // 2])

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        """Have what the run has written about the step sent."""
        self._add_samples(row for group in groups[:4] for row in sample_rows(step, "train", [group])[:2])
        self._wake.set()

    def close(self, ended: Ended = "finished") -> None:
        self._state = ended
        self._wake.set()
        self._thread.join(PATIENCE_S)

    def _add_samples(self, samples: Iterable[Row]) -> None:
        if not self._no_page:
            with self._lock:
                self._samples.extend(samples)

    def _push_forever(self) -> None:
        with contextlib.closing(self._rows):
            self._push_until_closed()

    def _push_until_closed(self) -> None:
        connection: tuple[Any, str] | None = None
        warned = False
        while True:
            last = self._state != "running"
            try:
                connection = connection or self._begin()
                if connection is None:
                    _log_no_page()
                    self._no_page = True
                    return
                self._push(*connection)
                warned = False
            except (RayError, KeyError, TimeoutError, OSError) as error:
                connection = None  # the host may come back, with or without the rows that it had
                if not warned:
                    log.warning("the page does not get this run's numbers; trying on: %s", first_line(error))
                    warned = True
            if last:
                return
            self._wake.wait(BEAT_S)
            self._wake.clear()

    def _begin(self) -> tuple[Any, str] | None:
        """Return the host and its id of this run; None if the cluster has no host."""
        host = find_host()
        if host is None:
            return None
        run, stored = ray.get(host.register.remote(self._info), timeout=PATIENCE_S)
        if stored < self._rows.first:
            self._rows.rewind()
        self._adapter_sent = 0.0
        return host, run

    def _push(self, host: Any, run: str) -> None:
        rows = self._rows.unread()
        changed, adapter = self._new_adapter()
        with self._lock:
            samples = list(self._samples)
        update = RunUpdate(self._rows.first, rows, samples, self._state, adapter)
        stored: int = ray.get(host.push.remote(run, update), timeout=PATIENCE_S)
        if stored == update.first_row + len(rows):
            self._rows.take(len(rows))
            self._adapter_sent = changed
        else:  # it has lost some of those before
            self._rows.rewind()

    def _new_adapter(self) -> tuple[float, dict[str, bytes]]:
        """Return when the best adapter's files last changed, and the files if that is since they were sent."""
        try:
            changed = (self._best / "adapter_model.safetensors").stat().st_mtime
            if changed == self._adapter_sent:
                return changed, {}
            return changed, {file.name: read_file(file) for file in sorted(self._best.iterdir())}
        except OSError:  # none yet, or it is being replaced at this moment
            return self._adapter_sent, {}
