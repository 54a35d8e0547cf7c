"""A real head with its dashboard, started and talked to as a user would."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests
from helpers.warm_processes import environment_of
from helpers.zygote import shared_zygote

from rl.cluster.connect import TOO_BUSY

ROOT = Path(__file__).parents[2]
RANKONE = Path(sys.executable).with_name("rankone")
SMALL = {
    "runtime": "ray", "problems_per_step": "8", "sampling.group_size": "4", "evaluate.every": "2",
    "evaluate.num_problems": "8", "reward.workers": "1",
}  # fmt: skip
UNHURRIED = """
import time

def digits(problem, completion):
    time.sleep(0.005)
    return sum(character.isdigit() for character in completion) / max(1, len(completion))
"""
"""The reward of runs that go on while others are looked at: they wait for it most of the time, and take no core."""


def without_ray_auth(**more: str) -> dict[str, str]:
    """This environment without what it says about Ray's tokens."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")} | more


def rankone(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that leaves nothing behind, in a copy of a process that has loaded what it needs."""
    return rankone_as({**os.environ, **environment}, *arguments, cwd=cwd)


def rankone_as(
    environment: dict[str, str], *arguments: object, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it so with these variables alone."""
    ended = shared_zygote().rankone(*arguments, cwd=cwd, seconds=240, environment=environment)
    assert ended.status is not None, ended
    return subprocess.CompletedProcess(arguments, ended.status, ended.stdout, ended.stderr)


def run_as(
    environment: dict[str, str], *arguments: object, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command as a shell would. What it starts may stay, as a cluster does."""
    command = [str(RANKONE), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=240)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def processes_of(directory: str) -> list[psutil.Process]:
    """Return all of a cluster's processes: Ray passes the directory to each of them.

    Its agents write their titles over what they were passed, and are known by their parents. Left behind, they would
    look for their head for a minute, and take a core for it.
    """
    family: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            known = environment_of(process)  # Ray's client server is told the directory in no other way
            places = (*process.cmdline(), known.get("RAY_TMPDIR", ""), known.get("HOME", ""))
            if any(directory in place for place in places):
                family |= {member.pid: member for member in (process, *process.children(recursive=True))}
        except psutil.Error:
            continue
    return [process for process in family.values() if process.pid != os.getpid()]


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """Kill them; one may end with another."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def actors(directory: str, title: str) -> list[psutil.Process]:
    """A cluster's actors of that class."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if f"ray::{title}" in " ".join(process.cmdline()) and directory in str(environment_of(process)):
                found.append(process)
        except psutil.Error:
            continue
    return found


@dataclass(frozen=True)
class Head:
    """A running head."""

    dashboard: str
    address: str
    directory: str
    """Also the home of the user who started it."""

    @property
    def token(self) -> str:
        """Empty if whoever comes is let in."""
        file = Path(self.directory, ".ray", "auth_token")
        return file.read_text() if file.exists() else ""

    @property
    def environment(self) -> dict[str, str]:
        """Variables that let in somebody who is not its user."""
        return {"RAY_AUTH_TOKEN": self.token}

    def rankone(self, *arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
        return rankone(*arguments, "--address", self.dashboard, **self.environment | more)

    def get(self, path: str) -> requests.Response:
        return requests.get(f"{self.dashboard}/{path}", headers={"Authorization": f"Bearer {self.token}"}, timeout=10)

    def runs(self) -> list[dict[str, Any]]:
        return self.get("rankone/runs.json").json()

    def submit(self, *arguments: object, **settings: str) -> str:
        """Submit without following; the job's id."""
        sets = [part for name, value in (SMALL | settings).items() for part in ("--set", f"{name}={value}")]
        ended = self.rankone("submit", ROOT / "examples" / "tiny.toml", "--no-follow", *sets, *arguments)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.split()[1]

    def submit_endless(self, **settings: str) -> str:
        """Submit a run that goes on until it is stopped, at some steps a second; the job's id."""
        reward = Path(self.directory, "unhurried.py")
        reward.write_text(UNHURRIED)
        return self.submit(num_steps="100000", **{"reward.function": f"{reward}:digits"} | settings)

    def run_of(self, job: str) -> dict[str, Any] | None:
        return next((run for run in self.runs() if run["submission_id"] == job), None)


def until(true: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
    return value


def quietly(call: Callable[[], Any]) -> Any:
    """None while the page host is being restarted, when the dashboard answers in its place."""
    try:
        return call()
    except (requests.RequestException, ValueError):
        return None


@contextmanager
def started_head(*more: str) -> Generator[Head]:
    """A head of its own, gone with all its processes when the block ends."""
    directory = tempfile.mkdtemp(prefix="ro-", dir="/tmp")
    try:
        yield _start(directory, more)
    finally:
        _end(directory)
        shutil.rmtree(directory, ignore_errors=True)


def _start(directory: str, more: tuple[str, ...], tries: int = 2) -> Head:
    dashboard = free_port()
    started = run_as(
        without_ray_auth(RANKONE_PAGE_DIR=str(Path(directory, "pages")), HOME=directory),
        "up", "--port", free_port(), "--dashboard-port", dashboard, "--temp-dir", directory, *more,
    )  # fmt: skip
    if TOO_BUSY in started.stderr and tries > 1:  # whoever runs tests beside other work
        _end(directory)
        return _start(directory, more, tries - 1)
    assert started.returncode == 0, started.stderr
    address = next(line for line in started.stdout.splitlines() if "--join" in line).split()[5]
    return Head(f"http://127.0.0.1:{dashboard}", address, directory)


def _end(directory: str) -> None:
    kill_all(processes_of(directory))
