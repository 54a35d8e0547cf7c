"""Clusters that rankone starts: a head whose dashboard shows accuracy curves, and nodes for it."""

import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from rl.cluster.connect import TOO_BUSY, ClusterStartError, join, mismatch, require_head
from rl.cluster.ray_directory import session_directory
from rl.cluster.token import make_token, token_wanted, use_token
from rl.jobs.process_tags import kill_on_failure, kill_tagged
from rl.monitoring.dashboard.host import NAMESPACE, start_host

log = logging.getLogger(__name__)

TRIES = 2
"""Attempts at a start. A second one need not read from the disk again what the first one read."""
QUIET: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": "ERROR"}


@dataclass(frozen=True, slots=True)
class Head:
    """The addresses of a started head."""

    address: str
    """HOST:PORT, for nodes and drivers."""
    dashboard: str
    """http://HOST:PORT, for people and jobs."""
    token: bool
    """True if it lets in only who has its token."""


def start_head(
    port: int, dashboard_host: str, dashboard_port: int, temp_dir: str | None = None, *, token: bool | None = None
) -> Head:
    """Start a head node, and the page of curves inside its dashboard.

    It lets in only who has its token, and gets one if there is none yet, unless `token` or else RAY_AUTH_MODE says no.

    Raises:
        ValueError: a port is taken, the token cannot be written, or another user is where Ray would keep its sessions.
        ClusterStartError: Ray says no.
    """
    for number in (port, dashboard_port):
        _require_free(number)
    token = token_wanted() if token is None else token
    if token:
        make_token()
    use_token(token)
    page = _free_port()
    place = f"http://127.0.0.1:{page}"
    # Ray asks these for a Grafana and a Prometheus, and frames what lies below the third address.
    environment = {
        "RAY_GRAFANA_HOST": f"{place}/rankone",
        "RAY_PROMETHEUS_HOST": f"{place}/rankone",
        "RAY_GRAFANA_IFRAME_HOST": "/rankone",
        "RAY_worker_niceness": "0",
    }
    arguments = [
        "--head", f"--port={port}", f"--dashboard-host={dashboard_host}", f"--dashboard-port={dashboard_port}",
        "--include-dashboard=true", f"--proxy-server-url={place}",
    ]  # fmt: skip
    with kill_on_failure() as tag:
        _ray_start(arguments, environment, temp_dir, tag)
        address = f"{_own_address()}:{port}"
        ray.init(address, **QUIET)
        try:
            start_host(page)
        finally:
            ray.shutdown()
    shown = "127.0.0.1" if dashboard_host in ("0.0.0.0", "127.0.0.1", "localhost") else dashboard_host
    return Head(address, f"http://{shown}:{dashboard_port}", token)


def join_cluster(address: str, temp_dir: str | None = None) -> None:
    """Make this machine a node of the cluster whose head is at HOST:PORT.

    Raises:
        ValueError: nothing answers there, it wants a token that is not here, or it is another version.
        ClusterStartError: Ray says no.
    """
    require_head(address)
    with kill_on_failure() as tag:
        _ray_start([f"--address={address}"], {"RAY_worker_niceness": "0"}, temp_dir, tag)


def attach_page(port: int) -> str:
    """Start the page on a cluster that is there already; return its address on the head."""
    join(os.environ.get("RAY_ADDRESS", "auto"), **QUIET)
    try:
        return start_host(port)
    finally:
        ray.shutdown()


def _ray_start(
    arguments: Sequence[str], environment: Mapping[str, str], temp_dir: str | None, tag: Mapping[str, str]
) -> None:
    """Run `ray start`, again if the machine was too busy for the first time. Its processes carry the tag."""
    for tries_left in reversed(range(TRIES)):
        output = _try_ray_start(arguments, {**environment, **tag}, temp_dir)
        if output is None:
            return
        if versions := mismatch(output):
            raise ValueError(versions)
        if "timed out during startup" not in output:
            raise ClusterStartError(f"ray start failed: {_error_line(output)}")
        if tries_left:
            log.warning("this machine was too busy for Ray to start within its 15 s; trying again")
            kill_tagged(tag)
    raise ClusterStartError(TOO_BUSY)


def _try_ray_start(arguments: Sequence[str], environment: Mapping[str, str], temp_dir: str | None) -> str | None:
    """Return what it printed if it failed, else None."""
    beside = Path(sys.executable).parent
    # Jobs run `rankone` and `python` from the path that the node was started with.
    path = os.pathsep.join([str(beside), os.environ.get("PATH", "")])
    # The agent takes the jobs. Where another node of this machine has taken Ray's own choice of a port, perhaps in this
    # moment, Ray would say nothing and start no job.
    command = [str(beside / "ray"), "start", *arguments, f"--dashboard-agent-listen-port={_free_port()}"]
    command.append("--disable-usage-stats")
    command.append(f"--temp-dir={session_directory() if temp_dir is None else temp_dir}")
    result = subprocess.run(
        command, env={**os.environ, **environment, "PATH": path}, capture_output=True, text=True, check=False
    )
    return result.stdout + result.stderr if result.returncode else None


def _error_line(output: str) -> str:
    """Return the line that says what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"error|fail|unable|cannot|can't", line, re.IGNORECASE)] or lines
    return errors[-1] if errors else "it said nothing"


def _require_free(port: int) -> None:
    if not _is_free(port):
        raise ValueError(f"port {port} is taken, perhaps by a Ray cluster that runs already; choose another")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _own_address() -> str:
    return ray.util.get_node_ip_address()
