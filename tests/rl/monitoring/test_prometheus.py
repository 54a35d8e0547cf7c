"""A real job's numbers in a real Prometheus, asked by every query of the Grafana dashboard."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from helpers.cluster import ROOT, Head, free_port, quietly, rankone, until

from lora.peft.files import read_peft, unpack
from rl.monitoring.dashboard.grafana import PANELS, VARIABLES, grafana_dashboard

PROMETHEUS = shutil.which("prometheus")
pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="needs a prometheus (Debian's package of that name)")


class Prometheus:
    """A server that scrapes one head."""

    def __init__(self, address: str) -> None:
        self._address = address

    def query(self, expression: str) -> list[dict[str, Any]]:
        asked = requests.get(f"{self._address}/api/v1/query", {"query": expression}, timeout=10).json()
        assert asked["status"] == "success", (expression, asked)
        return asked["data"]["result"]

    def values(self, metric: str, label: str) -> list[str]:
        asked = requests.get(f"{self._address}/api/v1/label/{label}/values", {"match[]": metric}, timeout=10)
        return asked.json()["data"]


@pytest.fixture(scope="module")
def prometheus(head: Head, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Debian's, with the configuration that Ray writes for it; only asked more often than every 10 s."""
    home, port = tmp_path_factory.mktemp("prometheus"), free_port()
    written = Path(head.directory, "session_latest", "metrics", "prometheus", "prometheus.yml")
    until(written.exists)
    config = home / "prometheus.yml"
    config.write_text(re.sub(r"(scrape|evaluation)_interval: 10s", r"\1_interval: 2s", written.read_text()))
    command = [str(PROMETHEUS), f"--config.file={config}", f"--storage.tsdb.path={home / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        until(lambda: quietly(lambda: requests.get(f"{address}/-/ready", timeout=2).ok))
        yield Prometheus(address)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def job(head: Head, prometheus: Prometheus, lesson: str) -> Iterator[str]:
    """A job that runs for as long as it is looked at. It evaluates at the start and then not for a long time. The other
    one starts beside it."""
    job = head.submit_endless(**{"evaluate.every": "100000"})
    until(lambda: (head.run_of(job) or {"step": 0})["step"] >= 2, 240)
    until(lambda: prometheus.query("ray_rankone_step > 2"))
    yield job
    head.rankone("stop", job)


@pytest.fixture(scope="module")
def lesson(head: Head, prometheus: Prometheus) -> Iterator[str]:
    """A supervised job, for what only those measure."""
    endless = ["--set", "num_steps=100000", "--set", "evaluate.every=100000", "--set", "checkpoint_every=100000"]
    sent = head.rankone("submit", "--sft", ROOT / "examples" / "sft-tiny.toml", "--no-follow", *endless)
    assert sent.returncode == 0, sent.stderr
    yield (lesson := sent.stdout.split()[1])
    head.rankone("stop", lesson)


def filled(expression: str) -> str:
    """A panel's query with every variable at "all", as Grafana would send it."""
    for name in VARIABLES:
        expression = expression.replace(f"${name}", ".*")
    return expression


def expressions() -> list[str]:
    board = json.loads(grafana_dashboard())
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def test_every_query_of_the_dashboard_returns_data(prometheus: Prometheus, job: str, lesson: str) -> None:
    assert len(expressions()) == sum(len(panel.queries) for panel in PANELS) > 20
    for expression in expressions():
        assert until(lambda e=expression: prometheus.query(filled(e))), expression


def test_every_variable_of_the_dashboard_has_values(prometheus: Prometheus, job: str, lesson: str) -> None:
    board = json.loads(grafana_dashboard())
    queries = [v["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    assert len(queries) == len(VARIABLES)
    found: dict[str, list[str]] = {}
    for query in queries:
        parts = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
        assert parts is not None
        found[parts[2]] = prometheus.values(parts[1], parts[2])
    assert job in found["run"]
    assert {job, lesson} <= set(found["submission_id"])
    assert (found["policy"], found["model"]) == (["0"], ["tiny-random"])


def test_a_supervised_job_that_is_stopped_leaves_its_adapter(head: Head, lesson: str, tmp_path: Path) -> None:
    until(lambda: (head.run_of(lesson) or {"step": 0})["step"] >= 2)
    ended = head.rankone("stop", lesson)
    assert (ended.returncode, "STOPPED" in ended.stdout) == (0, True), ended.stdout + ended.stderr
    assert head.rankone("fetch", lesson, "--out", tmp_path).returncode == 0
    assert unpack(read_peft(tmp_path / "adapter").payload)[1].rank == 8
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(len(rows)))


def test_an_accuracy_that_is_measured_seldom_has_no_gaps(prometheus: Prometheus, job: str) -> None:
    """The job's only evaluation is older than the time after which Ray forgets a gauge that is not set again."""
    until(lambda: prometheus.query(f'time() - min_over_time(timestamp(ray_rankone_eval_accuracy{{run="{job}"}})[5m:1s]) > 45'), 90)  # fmt: skip
    (first,) = prometheus.query(f'count_over_time(ray_rankone_eval_accuracy{{run="{job}"}}[30s])')
    assert int(first["value"][1]) >= 10, "scraped every 2 s, with no hole in the last 30 s"


def test_the_counters_agree_with_the_runs_own_numbers(head: Head, prometheus: Prometheus, job: str) -> None:
    (completions,) = prometheus.query(f'sum(ray_rankone_completions_total{{run="{job}"}})')
    (outcomes,) = prometheus.query(f'sum(ray_rankone_outcomes_total{{run="{job}"}})')
    assert float(completions["value"][1]) == float(outcomes["value"][1]) > 0
    assert float(completions["value"][1]) % 32 == 0, "8 problems of 4 completions a step"


def test_the_dashboard_is_written_beside_rays_own(head: Head, tmp_path: Path) -> None:
    beside = Path(head.directory, "session_latest", "metrics", "grafana", "dashboards")
    ended = rankone("grafana", "--out", beside)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(Path(ended.stdout.strip()).read_text())["uid"] == "rankone"
    assert list(beside.glob("default_grafana_dashboard.json"))
    missing = rankone("grafana", "--out", tmp_path / "none")
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1)
