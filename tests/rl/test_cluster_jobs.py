"""A real head with its dashboard and real jobs: from `rankone submit` to the curve."""

import json
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from clusters import RANKONE, ROOT, SMALL, Head, actors, free_port, processes_of, quietly, rankone, started_head, until

from lora.files import read_peft, unpack


@pytest.fixture(scope="module")
def finished(head: Head, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A job that ran to its end, with a reward file and data of its own, submitted and followed."""
    place = tmp_path_factory.mktemp("project")
    (place / "helper.py").write_text(
        "def digits(text):\n    return sum(c.isdigit() for c in text) / max(1, len(text))\n"
    )
    (place / "my_rewards.py").write_text(
        "import helper\n\ndef digits(problem, completion):\n    return helper.digits(completion)\n"
    )
    shutil.copy(ROOT / "examples" / "tiny.toml", place / "tiny.toml")
    shutil.copy(ROOT / "examples" / "tiny.jsonl", place / "tiny.jsonl")
    (place / "secret.txt").write_text("stays here")
    sets = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    ended = head.rankone(
        "submit", "tiny.toml", *sets, "--set", "num_steps=4", "--set", "reward.function=my_rewards.py:digits", cwd=place
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "held-out accuracy" in ended.stdout, "the curve is in the job's log"
    return ended.stdout.split()[1]


def test_a_job_runs_to_its_end_and_its_curve_is_on_the_dashboards_own_port(head: Head, finished: str) -> None:
    run = head.run_of(finished)
    assert run is not None
    assert [point[0] for point in run["curve"]] == [0, 2, 4]
    assert (run["state"], run["settings"]["reward"]) == ("finished", "my_rewards.py:digits")
    listed = head.rankone("jobs", COLUMNS="200").stdout
    assert finished in listed
    assert "SUCCEEDED" in listed
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
    (host,) = actors(head.directory, "PageHost")
    host.kill()
    assert head.get("api/version").json()["ray_version"]
    assert head.rankone("status", finished).returncode == 0
    run = until(lambda: quietly(lambda: head.run_of(finished)))
    assert [point[0] for point in run["curve"]] == [0, 2, 4], "a restarted page host has the runs again"


def test_a_stopped_job_ends_in_order_and_its_processes_are_gone(head: Head) -> None:
    job = head.submit(num_steps="5000")
    until(lambda: (head.run_of(job) or {"step": 0})["step"] >= 2, 240)
    ended = head.rankone("stop", job)
    assert (ended.returncode, "STOPPED" in ended.stdout) == (0, True), ended.stdout + ended.stderr
    assert head.rankone("status", job).returncode == 130
    assert until(lambda: (head.run_of(job) or {}).get("state") == "stopped")
    until(lambda: not actors(head.directory, "EngineActor"))
    kept = Path(head.directory, ".rankone", "runs", job)
    assert unpack(read_peft(kept / "adapters" / "last").payload)[1].rank == 8
    assert sorted((kept / "checkpoints").glob("step-*"))


def test_a_job_that_fails_gives_its_own_exit_status(head: Head, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def bad(problem, completion):\n    raise RuntimeError('no judge')\n")
    sets = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    config = ROOT / "examples" / "tiny.toml"
    ended = head.rankone("submit", config, *sets, "--set", "reward.function=bad.py:bad", cwd=tmp_path)
    assert ended.returncode not in (0, 130)
    assert "no judge" in ended.stdout


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
            for process in processes_of(gone.directory):
                process.kill()
            _, said = following.communicate(timeout=60)
    assert following.returncode == 1
    (line,) = [line for line in said.splitlines() if line.startswith("rankone:")]
    assert "is gone" in line


def test_a_run_goes_on_when_its_second_node_is_taken_away(head: Head) -> None:
    second = tempfile.mkdtemp(prefix="ro2-", dir="/tmp")
    try:
        joined = rankone("up", "--join", head.address, "--temp-dir", second, **head.environment)
        assert joined.returncode == 0, joined.stderr
        job = head.submit(**{"num_steps": "400", "rollout.num_workers": "4", "sampling.max_tokens": "3"})
        until(lambda: (head.run_of(job) or {"step": 0})["step"] >= 2, 240)
        raylets = [p for p in processes_of(second) if "raylet" in p.name()]
        assert raylets
        before = head.run_of(job)
        for process in raylets:
            process.send_signal(signal.SIGKILL)
        assert before is not None
        until(lambda: (head.run_of(job) or {"step": 0})["step"] >= before["step"] + 20, 240)
        assert head.rankone("stop", job).returncode == 0
    finally:
        for process in processes_of(second):
            process.kill()
        shutil.rmtree(second, ignore_errors=True)
