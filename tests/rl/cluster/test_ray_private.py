"""Every call of Ray's private API, against the Ray that is installed: a release that moves one fails here by its name."""

import gc
import inspect
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from helpers.cluster import Head, free_port, until

from rollout.ray import private as ray_private

PACKAGES = ("rl", "rollout", "rewards", "lora", "bench")
ROOT = Path(__file__).parents[3]
PRIVATE = ("._private", "_raylet", "internal_kv", "autoscaler.v2", "_do_request", "client._headers", "_global_node")


@pytest.fixture
def job_client(head: Head, monkeypatch: pytest.MonkeyPatch) -> Any:
    from ray.job_submission import JobSubmissionClient

    monkeypatch.setenv("RAY_AUTH_TOKEN", head.token)
    ray_private.reload_token()
    yield JobSubmissionClient(head.dashboard, headers=ray_private.stored_token_headers())
    monkeypatch.undo()
    ray_private.reload_token()


def test_nothing_else_uses_rays_private_api() -> None:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    assert len(files) > 100
    uses = {
        str(file.relative_to(ROOT))
        for file in files
        if any(name in file.read_text(encoding="utf-8") for name in PRIVATE)
    }
    assert uses == {"rollout/ray/private.py"}


def test_each_call_has_a_test() -> None:
    functions = inspect.getmembers(ray_private, inspect.isfunction)
    calls = [name for name, call in functions if call.__module__ == ray_private.__name__ and not name.startswith("_")]
    own_lines = Path(__file__).read_text(encoding="utf-8")
    assert len(calls) >= 13
    assert [name for name in calls if f"ray_private.{name}" not in own_lines] == []


def test_without_a_cluster_none_was_started() -> None:
    assert not ray.is_initialized()
    assert not ray_private.started_cluster()
    ray_private.kill_started_cluster()  # and there is nothing to kill


def test_a_cluster_of_our_own_is_known_as_such(ray_cluster: None) -> None:
    assert ray_private.started_cluster()


def test_the_session_has_its_logs_and_sockets(ray_cluster: None) -> None:
    assert {"logs", "sockets"} <= {entry.name for entry in Path(ray_private.session_path()).iterdir()}


def test_held_references_are_counted(ray_cluster: None) -> None:
    gc.collect()  # of references that earlier tests held
    before = ray_private.held_references()
    kept = [ray.put(number) for number in range(3)]
    assert ray_private.held_references() == before + len(kept)
    del kept
    assert ray_private.held_references() == before


def test_the_first_autoscalers_report_names_a_type_a_node(ray_cluster: None) -> None:
    def node_types() -> dict[str, str] | None:
        report = json.loads(ray_private.autoscaler_report() or b"{}")  # its first ones come before it has seen a node
        return report.get("autoscaler_report", {}).get("node_type_mapping")

    (kind,) = until(node_types, 60).values()
    assert kind.startswith("node_")


def test_the_second_autoscalers_status_has_nodes_and_a_version(ray_cluster: None) -> None:
    status = ray_private.cluster_status(ray.get_runtime_context().gcs_address)
    (node,) = (*status.active_nodes, *status.idle_nodes)
    assert node.ray_node_type_name
    assert status.stats.autoscaler_version in (None, "", "0")


def test_a_killed_cluster_leaves_no_process() -> None:
    script = (
        "import ray; from rollout.ray import private as ray_private; from rl.cluster.connect import start; start(num_cpus=1);"
        "print('session', ray_private.session_path(), flush=True); input();"
        "ray_private.kill_started_cluster(); import os; os._exit(7)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        session = next(line for line in process.stdout if line.startswith("session ")).split()[1]
        assert _processes_of(session)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(60) == 7
        until(lambda: not _processes_of(session), 20)
    finally:
        process.kill()


def _processes_of(session: str) -> list[psutil.Process]:
    """Return Ray's processes of that session."""
    return [
        process for process in psutil.process_iter(["cmdline"]) if session in " ".join(process.info["cmdline"] or [])
    ]


def test_the_token_is_read_again_when_it_was_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    for token in ("a" * 64, "b" * 64):
        monkeypatch.setenv("RAY_AUTH_TOKEN", token)
        ray_private.reload_token()
        assert token in "".join(ray_private.stored_token_headers().values())
    monkeypatch.undo()
    ray_private.reload_token()


def test_the_auth_mode_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._raylet import AuthenticationMode, get_authentication_mode

    try:
        for mode, value in (("disabled", AuthenticationMode.DISABLED), ("token", AuthenticationMode.TOKEN)):
            monkeypatch.setenv("RAY_AUTH_MODE", mode)
            ray_private.reload_auth_mode()
            assert get_authentication_mode() == value
    finally:
        monkeypatch.undo()
        ray_private.reload_auth_mode()


def test_a_head_tells_its_id_to_who_has_its_token(head: Head) -> None:
    token = {"authorization": f"Bearer {head.token}"}
    assert ray_private.ask_cluster_id(head.address, token, 10) is None
    assert ray_private.ask_cluster_id(head.address, {}, 10) == "UNAUTHENTICATED"
    assert ray_private.ask_cluster_id(f"127.0.0.1:{free_port()}", {}, 10) == "UNAVAILABLE"


def test_a_dashboard_says_that_it_wants_a_token(head: Head) -> None:
    assert ray_private.dashboard_wants_token(head.dashboard, 10)


def test_a_dashboard_tells_its_version(job_client: Any) -> None:
    assert ray_private.dashboard_ray_version(job_client) == ray.__version__


def test_the_job_clients_headers_have_the_token(job_client: Any, head: Head) -> None:
    assert head.token in "".join(ray_private.job_client_headers(job_client).values())


def test_the_job_client_is_quiet() -> None:
    """In a process of its own: the loggers must be those that importing it sets to INFO."""
    script = (
        "import json, logging, ray.job_submission; from rollout.ray import private as ray_private;"
        "levels = lambda: [logging.getLogger(name).level for name in ray_private.JOB_CLIENT_LOGGERS];"
        "import ray.dashboard.modules.job.sdk; before = levels(); ray_private.quiet_job_client();"
        "print(json.dumps([before, levels()]))"
    )
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = json.loads(answer.stdout.splitlines()[-1])
    assert logging.INFO in before
    assert after == [logging.WARNING] * 3
