"""Reports runs to the cluster's page host. Nothing here can slow a step down or stop a run."""

import logging
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from lora.messages import first_line
from rl.algorithm.evaluation.held_out import Evaluation
from rl.monitoring.dashboard.feed import PATIENCE_S, RunFeed
from rl.monitoring.dashboard.host import find_host
from rl.monitoring.dashboard.types import Row, RunInfo
from rl.run.directory import RunDirectory
from rl.run.journal import sample_rows
from rl.run.sinks import Ended, Sink
from rl.types import Group

log = logging.getLogger(__name__)

BEAT_S = 5.0
"""Updates are sent at least this often, even empty ones: a run that is silent for a minute is shown as silent."""
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


class PageReporter:
    """Sends feeds to the page host from a thread of its own, again if the host has lost them."""

    def __init__(self) -> None:
        self.no_page = False
        """True once it is known that the cluster has no page."""
        self._feeds: list[RunFeed] = []
        self._lock = threading.Lock()
        """Held by whoever adds a feed, or takes one out."""
        self._closed = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._send_until_closed, name="page-reporter", daemon=True)
        self._thread.start()

    def add(self, feed: RunFeed) -> None:
        """Send this one too, until it has ended."""
        with self._lock:
            self._feeds.append(feed)
        self.notify(feed)

    def notify(self, feed: RunFeed) -> None:
        """Send this one soon, because there is something new."""
        feed.changed = True
        self._wake.set()

    def close(self) -> None:
        """Send the last of all feeds."""
        self._closed = True
        self._wake.set()
        self._thread.join(PATIENCE_S)

    def _send_until_closed(self) -> None:
        host: Any = None
        warned = False
        while True:
            last = self._closed
            try:
                host = host or find_host()
                if host is None:
                    _log_no_page()
                    self.no_page = True
                    return
                self._send(host, all_feeds=last)
                warned = False
            except (RayError, KeyError, TimeoutError, OSError) as error:
                host = None  # it may come back, with or without the rows that it had
                for feed in self._feeds:
                    feed.disconnect()
                if not warned:
                    log.warning("the page does not get this run's numbers; trying on: %s", first_line(error))
                    warned = True
            if last:
                return
            self._wake.wait(BEAT_S)
            self._wake.clear()

    def _send(self, host: Any, *, all_feeds: bool) -> None:
        for feed in tuple(self._feeds):
            if all_feeds or feed.changed or feed.quiet_s() > BEAT_S / 2:
                ended = feed.send(host)
                if ended:
                    with self._lock:
                        self._feeds.remove(feed)


class DashboardReporter(Sink):
    """Reports one run: the rows of its file of metrics, and its newest completions."""

    def __init__(self, info: RunInfo, directory: RunDirectory) -> None:
        self._feed = RunFeed(info, directory.metrics_file, directory.adapters / "best")
        self._page = PageReporter()
        self._page.add(self._feed)

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        self._add_samples(sample_rows(step, "held out", evaluation.groups)[: NUM_SAMPLES // 2])

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        """Have what the run has written about the step sent."""
        self._add_samples(row for group in groups[:4] for row in sample_rows(step, "train", [group])[:2])
        self._page.notify(self._feed)

    def close(self, ended: Ended = "finished") -> None:
        self._feed.state = ended
        self._page.close()

    def _add_samples(self, samples: Iterable[Row]) -> None:
        if not self._page.no_page:
            self._feed.add_samples(samples, NUM_SAMPLES)
