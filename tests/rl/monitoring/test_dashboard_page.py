"""The page's store and server: what a run told is shown, after whatever happened, and nothing else is answered."""

import multiprocessing
import os
import re
import signal
import zipfile
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from rl.monitoring.dashboard.downsample import bin_means, subsample
from rl.monitoring.dashboard.server import application
from rl.monitoring.dashboard.store import FILE, RunStore
from rl.monitoring.dashboard.types import Row, RunInfo, RunUpdate

SETTINGS = {"rank": 1, "lr": 1e-4}


def info(name: str = "addition", place: str = "node:/runs/a", **more: Any) -> RunInfo:
    return RunInfo(name, place, num_steps=10, settings=SETTINGS, **more)


def rows(*steps: int, accuracy: float = 0.5) -> list[Row]:
    return [{"step": step, "time": 1000.0 + step, "eval/accuracy": accuracy, "reward/mean": 0.25} for step in steps]


def written(store: RunStore, run: str) -> list[int]:
    return [row["step"] for row in store.rows(run)]


# --- the store ---


def test_news_that_are_told_twice_or_after_a_gap_do_no_harm(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    run = store.register(info())
    assert store.apply(run, RunUpdate(0, rows(0, 1))) == 2
    assert store.apply(run, RunUpdate(0, rows(0, 1))) == 2
    assert store.apply(run, RunUpdate(5, rows(5))) == 2, "what came between has to be told first"
    assert store.apply(run, RunUpdate(2, rows(2))) == 3
    assert written(store, run) == [0, 1, 2]


def test_steps_that_are_done_again_replace_the_first_ones(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    run = store.register(info())
    store.apply(run, RunUpdate(0, rows(0, 1, 2, 3)))
    store.apply(run, RunUpdate(2, rows(2, accuracy=0.9)))
    record = store.record(run)
    assert record is not None
    assert [point[::2] for point in record.summary()["curve"]] == [[0, 0.5], [1, 0.5], [2, 0.9]]
    assert written(store, run) == [0, 1, 2]


def test_a_resumed_run_is_the_same_and_another_of_its_name_is_not(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    first = store.register(info())
    store.apply(first, RunUpdate(0, rows(0), state="stopped"))
    assert store.register(info()) == first
    record = store.record(first)
    assert record is not None
    assert record.state == "running"
    assert store.register(info(place="elsewhere:/runs/a")) == "addition-2"


def test_everything_is_there_again_after_a_kill(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=tell_and_die, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL

    again = RunStore(tmp_path)
    record = again.record("addition")
    assert record is not None
    assert (written(again, "addition"), record.samples) == ([0, 1], [{"completion": "7"}])
    assert again.apply("addition", RunUpdate(2, rows(2))) == 3
    packed = again.adapter_zip("addition")
    assert packed is not None
    assert zipfile.ZipFile(BytesIO(packed)).namelist() == ["adapter_config.json"]


def tell_and_die(directory: Path) -> None:
    store = RunStore(directory)
    run = store.register(info())
    store.apply(run, RunUpdate(0, rows(0, 1), samples=[{"completion": "7"}], adapter={"adapter_config.json": b"{}"}))
    store._database.execute("DELETE FROM steps")  # an update that was never committed
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_damaged_store_is_put_aside_and_begun_anew(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    store = RunStore(tmp_path)
    assert store.apply(store.register(info()), RunUpdate(0, rows(0))) == 1
    assert len(list(tmp_path.glob(f"{FILE}.damaged-*"))) == 1


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", "..", "<script>", "ä ö"])
def test_no_name_leaves_the_directory(tmp_path: Path, name: str) -> None:
    store = RunStore(tmp_path / "runs")
    run = store.register(info(name=name))
    store.apply(run, RunUpdate(0, rows(0), adapter={"../../escaped": b"x"}))
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", run)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    packed = store.adapter_zip(run)
    assert packed is not None
    assert zipfile.ZipFile(BytesIO(packed)).namelist() == ["escaped"]


def test_a_run_without_news_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RunStore(tmp_path)
    record = store.record(store.register(info()))
    assert record is not None
    assert record.summary()["state"] == "running"
    record.heard -= 61
    assert record.summary()["state"] == "silent"


def test_rows_that_are_taken_back_are_gone_from_every_answer(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    runs = [store.register(info(place=f"node:/runs/{i}")) for i in range(3)]
    for run in runs:
        store.apply(run, RunUpdate(0, rows(*range(50))))
    store.apply(runs[0], RunUpdate(50, rows(50)))
    store.apply(runs[0], RunUpdate(10, rows(10)))
    assert written(store, runs[0]) == list(range(11))
    assert [store.known(run) for run in runs] == [11, 50, 50]
    summary = next(one for one in store.summaries() if one["id"] == runs[0])
    assert (summary["step"], len(summary["curve"]), summary["started"]) == (10, 11, 1000.0)


def test_an_unknown_run_is_a_key_error_so_that_the_reporter_registers_again(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        RunStore(tmp_path).apply("nobody", RunUpdate(0, rows(0)))


@given(st.lists(st.integers(), max_size=50), st.integers(1, 60))
def test_subsampled_values_keep_their_order_and_the_last_one(values: list[int], most: int) -> None:
    few = subsample(list(enumerate(values)), most)
    assert len(few) == min(len(values), most)
    assert few == sorted(few)
    assert few[-1:] == [*enumerate(values)][-1:]


def test_a_long_run_is_drawn_by_the_means_of_its_steps(tmp_path: Path) -> None:
    many: list[Row] = [{"step": i, "time": float(i), "update/loss": i % 2} for i in range(10_001)]
    many[5] |= {"time/evaluate_s": 7.0, "update/loss": float("nan")}
    few, each = bin_means(many, 600)
    assert (each, len(few), few[-1]["step"]) == (17, 589, 10_000)
    assert few[0] == {"step": 16, "time": 16.0, "update/loss": 7 / 16, "time/evaluate_s": 7.0}
    assert bin_means(many[:600], 600) == (many[:600], 1)


# --- the server ---


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[TestClient[Any, Any]]:
    store = RunStore(tmp_path)
    run = store.register(info(submission_id="job-1"))
    store.apply(run, RunUpdate(0, [*rows(0), {"step": 1, "time": 1001.0, "update/loss": float("nan")}]))
    async with TestClient(TestServer(application(store))) as client:
        yield client


async def test_rays_dashboard_finds_the_grafana_and_prometheus_it_asks_for(client: TestClient[Any, Any]) -> None:
    health = await (await client.get("/rankone/api/health")).json()
    query = await (await client.get("/rankone/api/v1/query", params={"query": "vector(1)"})).json()
    assert (health["database"], query["status"]) == ("ok", "success")
    for framed in (
        "d/rayDefaultDashboard/?orgId=1&theme=dark",
        "d-solo/rayDefaultDashboard/default-dashboard?panelId=41",
    ):
        answer = await client.get(f"/rankone/{framed}")
        assert (answer.status, answer.content_type) == (200, "text/html")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/jobs/",
        "/api/version",
        "/rankone",
        "/rankone/else",
        "/rankone/../etc/passwd",
        "/rankone/runs/..%2f..%2fx",
    ],
)
async def test_what_is_not_its_own_is_left_to_the_dashboard(client: TestClient[Any, Any], path: str) -> None:
    assert (await client.get(path)).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/rankone/runs.json", "/api/packages/gcs/x.zip"])
async def test_nothing_can_be_changed_through_it(client: TestClient[Any, Any], method: str, path: str) -> None:
    assert (await client.request(method, path, data=b"x" * 3_000_000)).status == 404


async def test_numbers_that_json_has_no_word_for_do_not_break_the_page(client: TestClient[Any, Any]) -> None:
    detail = await (await client.get("/rankone/runs/addition.json")).json()
    assert detail["rows"][1]["update/loss"] is None
    (run,) = await (await client.get("/rankone/runs.json")).json()
    assert (run["curve"], run["submission_id"], run["step"]) == ([[0, 1000.0, 0.5]], "job-1", 1)


async def test_what_a_browser_has_is_not_sent_again(client: TestClient[Any, Any]) -> None:
    for path in ("/rankone/runs.json", "/rankone/runs/addition.json"):
        first = await client.get(path)
        again = await client.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (first.status, again.status, await again.read()) == (200, 304, b"")


async def test_a_run_that_is_not_there_is_gone_and_an_adapter_that_is_not_yet_there_says_so(
    client: TestClient[Any, Any],
) -> None:
    assert (await client.get("/rankone/runs/other.json")).status == 410
    assert (await client.get("/rankone/runs/addition/adapter.zip")).status == 409


async def test_the_page_loads_nothing_from_outside_and_may_not(client: TestClient[Any, Any]) -> None:
    page = await client.get("/rankone/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "frame-ancestors 'self'" in policy
    text = await page.text()
    assert "//" not in text.replace("<!doctype html>", "")
    assert "plotly" in (await (await client.get("/rankone/plotly.js")).text())[:2000].lower()
