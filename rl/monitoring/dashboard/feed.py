"""The page host's view of one run, and what it is still to be sent of it."""

import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ray

from lora.files.ordinary_file import read_file
from rl.monitoring.dashboard.types import Row, RunInfo, RunUpdate, State
from rl.run.metrics_tail import MetricsTail

PATIENCE_S = 10.0


class RunFeed:
    """Follows a run's file of metrics, its newest completions and its best adapter, for one thread that sends them."""

    def __init__(self, info: RunInfo, metrics: Path, adapter: Path | None = None) -> None:
        self.state: State = "running"
        """Set when the run has ended; it is sent with what is left."""
        self.changed = False
        """True if there is something new."""
        self._info = info
        self._rows = MetricsTail(metrics)
        self._adapter = adapter
        self._samples: deque[Row] = deque()
        self._lock = threading.Lock()
        """Held by whoever reads or adds samples."""
        self._run: str | None = None
        """The host's id of the run, once it has been told of it."""
        self._adapter_sent = 0.0
        """When the adapter that the host has was written."""
        self._sent = -1e9

    def add_samples(self, samples: Iterable[Row], most: int) -> None:
        """Take in completions; the newest `most` of all are kept."""
        with self._lock:
            self._samples.extend(samples)
            while len(self._samples) > most:
                self._samples.popleft()

    def quiet_s(self) -> float:
        """Return the seconds since something was sent last."""
        return time.monotonic() - self._sent

    def disconnect(self) -> None:
        """Begin anew with the next host, which may be another one."""
        self._run = None
        self._rows.close()

    def send(self, host: Any) -> bool:
        """Send the host what it lacks; return True if nothing will follow.

        Raises:
            RayError, TimeoutError: the host does not answer.
            KeyError: it has forgotten the run.
            OSError: the run's files cannot be read.
        """
        state, self.changed = self.state, False  # before anything is read: what comes meanwhile is sent the next time
        self._run = self._run or self._begin(host)
        rows = self._rows.unread()
        written, adapter = self._new_adapter()
        with self._lock:
            samples = list(self._samples)
        update = RunUpdate(self._rows.first, rows, samples, state, adapter)
        stored: int = ray.get(host.push.remote(self._run, update), timeout=PATIENCE_S)
        self._sent = time.monotonic()
        if stored != update.first_row + len(rows):  # it has lost some of those before
            self._rows.rewind()
            self.changed = True
            return False
        self._rows.take(len(rows))
        self._adapter_sent = written
        if state != "running":
            self._rows.close()
        return state != "running"

    def _begin(self, host: Any) -> str:
        run, stored = ray.get(host.register.remote(self._info), timeout=PATIENCE_S)
        if stored < self._rows.first:
            self._rows.rewind()
        self._adapter_sent = 0.0
        return run

    def _new_adapter(self) -> tuple[float, dict[str, bytes]]:
        """Return when the best adapter's files last changed, and the files if that is since they were sent."""
        if self._adapter is None:
            return 0.0, {}
        try:
            changed = (self._adapter / "adapter_model.safetensors").stat().st_mtime
            if changed == self._adapter_sent:
                return changed, {}
            return changed, {file.name: read_file(file) for file in sorted(self._adapter.iterdir())}
        except OSError:  # none yet, or it is being replaced at this moment
            return self._adapter_sent, {}
