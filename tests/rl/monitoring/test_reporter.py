"""A run's reports to the page, whatever happens to either: the store has every step once."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.fakes import RIGHT, problem
from ray.exceptions import ActorDiedError

from rl.config import RunConfig
from rl.monitoring.dashboard import reporter
from rl.monitoring.dashboard.reporter import NO_PAGE, DashboardReporter
from rl.monitoring.dashboard.store import RunStore
from rl.monitoring.dashboard.types import RunInfo, RunUpdate
from rl.run.directory import RunDirectory
from rl.run.jsonl import append_objects
from rl.types import Group
from rollout.types import Completion

GROUP = Group(problem("2 + 2?"), [1], [Completion((3,), (0.0,), "4", "stop", 0)], [RIGHT])
INFO = RunInfo("run", "node:/runs/a", num_steps=10, settings={})


class Method:
    """A method of an actor that is in this process: `ray.get` finds the answer there already."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.remote = method


class Host:
    """The page host, without Ray."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.pushed: list[int] = []
        """Steps of the rows that it was sent, and took."""
        self.gone = False
        self.register = Method(self._register)
        self.push = Method(self._push)

    def _register(self, info: RunInfo) -> tuple[str, int]:
        run = self.store.register(info)
        return run, self.store.known(run)

    def _push(self, run: str, update: RunUpdate) -> int:
        if self.gone:
            raise ActorDiedError
        self.pushed += [row["step"] for row in update.rows]
        return self.store.apply(run, update)


class ReportingRun:
    """A run that reports what it writes."""

    def __init__(self, place: Path, host: Host | None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reporter, "BEAT_S", 0.02)
        monkeypatch.setattr(reporter, "find_host", lambda: host)
        monkeypatch.setattr(reporter.ray, "get", lambda answer, timeout: answer)
        self.directory = RunDirectory.create(place / "run", RunConfig())
        self.reporter = DashboardReporter(INFO, self.directory)

    def step(self, step: int, reward: float = 0.0) -> None:
        append_objects(self.directory.metrics_file, [{"step": step, "time": 1.0, "reward": reward}])
        self.reporter.on_step(step, {"reward": reward}, [GROUP])


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def count(store: RunStore) -> int:
    record = store.record("run")
    return record.outline.count if record is not None else 0


def stored(store: RunStore) -> list[tuple[int, float]]:
    """The rows, once nobody writes any more."""
    return [(row["step"], row["reward"]) for row in store.rows("run")]


def test_steps_are_sent_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RunStore(tmp_path / "store")
    host = Host(store)
    run = ReportingRun(tmp_path, host, monkeypatch)
    for step in range(50):
        run.step(step)
    until(lambda: count(store) == 50)
    run.reporter.close()
    assert stored(store) == [(step, 0.0) for step in range(50)]
    assert sorted(host.pushed) == list(range(50))


@pytest.mark.parametrize("lost", [False, True])
def test_a_host_that_was_away_is_sent_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """It comes back with the rows that it had, or without."""
    store = RunStore(tmp_path / "store")
    host = Host(store)
    run = ReportingRun(tmp_path, host, monkeypatch)
    run.step(0)
    until(lambda: count(store) == 1)
    host.gone = True
    for step in range(1, 500):
        run.step(step)
    if lost:
        store = host.store = RunStore(tmp_path / "new")
    host.gone = False
    until(lambda: count(store) == 500)
    run.reporter.close()
    assert stored(store) == [(step, 0.0) for step in range(500)]
    assert host.pushed.count(0) == 1 + lost


def test_steps_that_are_done_again_replace_the_first_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent already or not: the learner died, and the run went back to its checkpoint of step 3."""
    store = RunStore(tmp_path / "store")
    run = ReportingRun(tmp_path, Host(store), monkeypatch)
    for step in range(6):
        run.step(step)
    until(lambda: count(store) == 6)
    run.directory.truncate_from(3)
    for step in range(3, 8):
        run.step(step, reward=1.0)
    run.reporter.close()
    assert stored(store) == [(step, float(step >= 3)) for step in range(8)]


def test_where_there_is_no_page_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ReportingRun(tmp_path, None, monkeypatch)
    until(lambda: run.reporter._page.no_page)  # pyright: ignore[reportPrivateUsage]
    run.step(0)
    run.reporter.close()
    assert not run.reporter._feed._samples  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(("address", "times"), [("10.0.0.1:6379", 1), ("local", 0)])
def test_a_sweep_says_once_that_the_cluster_it_joined_has_no_page_and_never_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, address: str, times: int
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(reporter, "_NO_PAGE_LOGGED", threading.Lock())
    with caplog.at_level("INFO"):
        for run in [ReportingRun(tmp_path / f"{index}", None, monkeypatch) for index in range(4)]:
            run.reporter.close()
    assert [record.message for record in caplog.records if record.name == reporter.__name__] == [NO_PAGE] * times
