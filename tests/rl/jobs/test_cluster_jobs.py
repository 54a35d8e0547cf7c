"""A real head with its dashboard and real jobs: from `rankone submit` to the curve."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from helpers.cluster import (
    RANKONE,
    ROOT,
    SMALL,
    Head,
    actors,
    free_port,
    kill_all,
    processes_of,
    quietly,
    rankone,
    run_as,
    started_head,
    until,
    without_ray_auth,
)

from lora.peft.files import read_peft, unpack
from rl.jobs.client import STOP_WAIT_S


@pytest.fixture(scope="module")
def finished(head: Head, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A job that ran to its end, with a reward file and data of its own, submitted and followed.

    The file has the name of a package of ours, and the job one that would be markup.
    """
    place = tmp_path_factory.mktemp("project")
    (place / "helper.py").write_text(
        "def digits(text):\n    return sum(c.isdigit() for c in text) / max(1, len(text))\n"
    )
    (place / "rewards.py").write_text(
        "import helper\n\ndef digits(problem, completion):\n    return helper.digits(completion)\n"
    )
    shutil.copy(ROOT / "examples" / "tiny.toml", place / "tiny.toml")
    shutil.copy(ROOT / "examples" / "tiny.jsonl", place / "tiny.jsonl")
    (place / "secret.txt").write_text("stays here")
    sets = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    ended = head.rankone(
        "submit", "tiny.toml", "--name", "[/b]", *sets, *("--set", "num_steps=4"),
        *("--set", "reward.function=rewards.py:digits"), cwd=place,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "held-out accuracy" in ended.stdout, "the curve is in the job's log"
    return ended.stdout.split()[1]


def test_a_job_runs_to_its_end_and_its_curve_is_on_the_dashboards_own_port(head: Head, finished: str) -> None:
    run = head.run_of(finished)
    assert run is not None
    assert [point[0] for point in run["curve"]] == [0, 2, 4]
    assert (run["state"], run["settings"]["reward"]) == ("finished", "rewards.py:digits")
    listed = head.rankone("jobs", COLUMNS="200").stdout
    assert finished in listed
    assert "SUCCEEDED" in listed
    assert "[/b]" in listed, "whoever gave a job such a name broke the list for everybody"
    assert head.rankone("status", finished).returncode == 0
    assert "held-out accuracy" in head.rankone("logs", finished).stdout


def test_a_jobs_curve_is_watched_in_a_terminal(head: Head, finished: str) -> None:
    ended = head.rankone("watch", finished, "--once", COLUMNS="160")
    assert ended.returncode == 0, ended.stderr
    assert finished in ended.stdout
    assert "finished" in ended.stdout
    unknown = head.rankone("watch", "no-such-job", "--once")
    assert (unknown.returncode, len(unknown.stderr.splitlines())) == (2, 1), unknown.stderr


def test_a_finished_jobs_adapter_and_metrics_are_fetched(head: Head, finished: str, tmp_path: Path) -> None:
    ended = head.rankone("fetch", finished, "--out", tmp_path / "got")
    assert ended.returncode == 0, ended.stderr
    assert unpack(read_peft(tmp_path / "got" / "adapter").payload)[1].rank == 8
    steps = [json.loads(line)["step"] for line in (tmp_path / "got" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 1, 2, 3, 4]
    again = head.rankone("fetch", finished, "--out", tmp_path / "got")
    assert (again.returncode, "not empty" in again.stderr) == (2, True)


def test_ray_itself_works_through_the_page_host_and_without_it(head: Head, finished: str) -> None:
    assert head.get("api/version").json()["ray_version"]
    for health in ("grafana_health", "prometheus_health"):
        assert head.get(f"api/{health}").json()["result"], health
    (host,) = actors(head.directory, "DashboardActor")
    host.kill()
    assert head.get("api/version").json()["ray_version"]
    assert head.rankone("status", finished).returncode == 0
    run = until(lambda: quietly(lambda: head.run_of(finished)))
    assert [point[0] for point in run["curve"]] == [0, 2, 4], "a restarted page host has the runs again"


def test_a_job_that_fails_gives_its_own_exit_status(head: Head, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def bad(problem, completion):\n    raise RuntimeError('no judge')\n")
    sets = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    config = ROOT / "examples" / "tiny.toml"
    ended = head.rankone("submit", config, *sets, "--set", "reward.function=bad.py:bad", cwd=tmp_path)
    assert ended.returncode not in (0, 130)
    assert "no judge" in ended.stdout


def test_a_supervised_run_and_a_sweep_are_jobs_too(head: Head, tmp_path: Path) -> None:
    """Both at once: log-loss is on the page, and every run of the sweep is fetched with what the sweep found."""
    (tmp_path / "sweep.toml").write_text(f'base = "{ROOT}/examples/tiny.toml"\naxes."lora.rank" = [1, 4]\n')
    short = [part for name, value in (SMALL | {"num_steps": "2"}).items() for part in ("--set", f"{name}={value}")]
    jobs: list[str] = []
    for arguments in (["--sft", ROOT / "examples" / "sft-tiny.toml"], [tmp_path / "sweep.toml"]):
        sent = head.rankone("submit", *arguments, "--no-follow", *short)
        assert sent.returncode == 0, sent.stderr
        jobs.append(sent.stdout.split()[1])
    supervised, sweep = jobs
    for job in jobs:
        until(lambda job=job: head.get(f"api/jobs/{job}").json()["status"] not in ("PENDING", "RUNNING"), 240)
        assert head.rankone("status", job).returncode == 0, head.rankone("logs", job).stdout
    run = until(lambda: head.run_of(supervised))
    assert ([point[0] for point in run["loss"]], run["curve"]) == ([0, 2], [])
    assert "nats" in head.rankone("watch", supervised, "--once", COLUMNS="160").stdout
    for job in jobs:
        assert head.rankone("fetch", job, "--out", tmp_path / job).returncode == 0
    assert unpack(read_peft(tmp_path / supervised / "adapter").payload)[1].rank == 8
    found = json.loads((tmp_path / sweep / "sweep.json").read_text())
    assert [(one["rank"], one["ended"]) for one in found] == [(1, "finished"), (4, "finished")]
    for one in found:
        assert unpack(read_peft(tmp_path / sweep / one["directory"] / "adapter").payload)[1].rank == one["rank"]


def test_a_sweep_that_is_stopped_leaves_the_adapters_of_its_runs(head: Head, tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(f'base = "{ROOT}/examples/tiny.toml"\naxes."lora.rank" = [1, 4]\n')
    endless = [part for name, value in (SMALL | {"num_steps": "5000"}).items() for part in ("--set", f"{name}={value}")]
    sent = head.rankone("submit", tmp_path / "sweep.toml", "--no-follow", *endless)
    assert sent.returncode == 0, sent.stderr
    job = sent.stdout.split()[1]
    until(lambda: [run["step"] >= 2 for run in head.runs() if run["submission_id"] == job] == [True, True], 240)
    began = time.monotonic()
    ended = head.rankone("stop", job)
    assert (ended.returncode, "STOPPED" in ended.stdout) == (0, True), ended.stdout + ended.stderr
    assert time.monotonic() - began < STOP_WAIT_S / 2, "in order, and not killed when its time was over"
    until(lambda: not actors(head.directory, "EngineActor") and not actors(head.directory, "LearnerActor"))
    assert head.rankone("fetch", job, "--out", tmp_path / job).returncode == 0
    left = sorted(unpack(read_peft(one).payload)[1].rank for one in (tmp_path / job).glob("*/adapter"))
    assert left == [1, 4]


@pytest.mark.parametrize("command", ["status", "logs", "stop"])
def test_a_job_that_is_not_there_is_named(head: Head, command: str) -> None:
    ended = head.rankone(command, "no-such-job")
    assert (ended.returncode, "no-such-job" in ended.stderr, len(ended.stderr.splitlines())) == (2, True, 1), (
        ended.stderr
    )


def test_a_wrong_address_is_one_line(tmp_path: Path) -> None:
    for address, code in ((f"http://127.0.0.1:{free_port()}", 1), ("head:8265", 2)):
        ended = rankone("jobs", "--address", address)
        assert (ended.returncode, len(ended.stderr.splitlines())) == (code, 1), ended.stderr
        assert address in ended.stderr


def test_a_start_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Ray itself starts, and then the page cannot keep its runs."""
    directory = tempfile.mkdtemp(prefix="ro-", dir="/tmp")
    try:
        ended = run_as(
            without_ray_auth(RANKONE_PAGE_DIR="/proc/none", HOME=directory),
            "up", "--port", free_port(), "--dashboard-port", free_port(), "--temp-dir", directory,
        )  # fmt: skip
        assert ended.returncode == 1, ended.stderr
        assert processes_of(directory) == []
    finally:
        kill_all(processes_of(directory))
        shutil.rmtree(directory, ignore_errors=True)


def test_a_run_joins_the_machines_own_cluster_unless_it_is_told_not_to(head: Head) -> None:
    """Ray keeps the latest one's address in its directory."""
    place = tempfile.mkdtemp(prefix="ro-", dir="/tmp")  # short, as sockets below it have to be
    script = (
        "from rl.cluster.components import connect; connect(); import ray; print(ray.get_runtime_context().gcs_address)"
    )

    def joined(**more: str) -> str:
        environment = without_ray_auth(HOME=head.directory, RAY_TMPDIR=place, **more)
        ended = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.split()[-1]

    try:
        known = Path(place, "ray", "ray_current_cluster")
        known.parent.mkdir()
        known.write_text(head.address)
        assert joined() == head.address
        assert joined(RAY_ADDRESS="local") != head.address
    finally:
        shutil.rmtree(place, ignore_errors=True)


def test_a_taken_port_is_one_line(head: Head) -> None:
    ended = rankone("up", "--dashboard-port", head.dashboard.rpartition(":")[2], "--port", free_port())
    assert (ended.returncode, "is taken" in ended.stderr, len(ended.stderr.splitlines())) == (2, True, 1)


def test_a_head_that_goes_away_while_it_is_followed_is_one_line(tmp_path: Path) -> None:
    with started_head("--no-token") as gone:
        assert not gone.token
        assert rankone("jobs", "--address", gone.dashboard).returncode == 0, (
            "a token that nobody asks for is no hindrance"
        )
        sets = [
            part for name, value in (SMALL | {"num_steps": "100000"}).items() for part in ("--set", f"{name}={value}")
        ]
        command = [str(RANKONE), "submit", str(ROOT / "examples" / "tiny.toml"), "--address", gone.dashboard, *sets]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
            until(lambda: quietly(lambda: any(run["step"] >= 3 for run in gone.runs())), 240)
            kill_all(processes_of(gone.directory))
            _, said = following.communicate(timeout=60)
    assert following.returncode == 1
    (line,) = [line for line in said.splitlines() if line.startswith("rankone:")]
    assert "is gone" in line


def test_a_run_goes_on_when_its_second_node_is_taken_away_and_ends_in_order_when_it_is_stopped(head: Head) -> None:
    second = tempfile.mkdtemp(prefix="ro2-", dir="/tmp")
    try:
        joined = run_as(os.environ | head.environment, "up", "--join", head.address, "--temp-dir", second)
        assert joined.returncode == 0, joined.stderr
        job = head.submit(**{"num_steps": "5000", "rollout.num_workers": "3", "sampling.max_tokens": "3"})
        until(lambda: (head.run_of(job) or {"step": 0})["step"] >= 2, 240)
        raylets = [p for p in processes_of(second) if "raylet" in p.name()]
        assert raylets
        before = head.run_of(job)
        for process in raylets:
            process.send_signal(signal.SIGKILL)
        assert before is not None
        until(lambda: (head.run_of(job) or {"step": 0})["step"] >= before["step"] + 20, 240)
        ended = head.rankone("stop", job)
        assert (ended.returncode, "STOPPED" in ended.stdout) == (0, True), ended.stdout + ended.stderr
    finally:
        kill_all(processes_of(second))
        shutil.rmtree(second, ignore_errors=True)
    assert head.rankone("status", job).returncode == 130
    assert until(lambda: (head.run_of(job) or {}).get("state") == "stopped")
    until(lambda: not actors(head.directory, "EngineActor") and not actors(head.directory, "LearnerActor"))
    kept = Path(head.directory, ".rankone", "runs", job)
    assert unpack(read_peft(kept / "adapters" / "last").payload)[1].rank == 8
    assert sorted((kept / "checkpoints").glob("step-*"))
