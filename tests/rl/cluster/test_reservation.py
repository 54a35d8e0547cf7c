"""Placement groups on real clusters: refused at once, waited for, granted, and spread over the nodes."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.cluster import RANKONE, ROOT, SMALL, free_port, kill_all, processes_of, rankone_as, until

TINY = ROOT / "examples" / "tiny.toml"
HEAD_NODE = "f" * 51 + "00000"


class Cluster:
    """Nodes on this machine that count as many CPUs as they are told to."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.directory = tempfile.mkdtemp(prefix="ro-", dir="/tmp")
        self.address = f"127.0.0.1:{free_port()}"
        port = self.address.partition(":")[2]
        self._start("--head", f"--port={port}", f"--temp-dir={self.directory}", *arguments, **environment)

    def join(self, *arguments: str) -> None:
        self._start(f"--address={self.address}", *arguments)

    def _start(self, *arguments: str, **environment: str) -> None:
        command = [str(RANKONE.with_name("ray")), "start", "--disable-usage-stats", "--include-dashboard=false"]
        command = [part for part in command if "dashboard" not in part or "--head" in arguments]
        env = {**os.environ, "RAY_TMPDIR": self.directory, "HOME": self.directory, **environment}
        ended = subprocess.run([*command, *arguments], env=env, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr

    def train(self, **settings: str) -> "subprocess.Popen[str]":
        command = [str(RANKONE), *self._training(settings)]
        return subprocess.Popen(
            command, env=self._environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def trained(self, **settings: str) -> "subprocess.CompletedProcess[str]":
        """Run the same to its end, in a copy of a process that has loaded what it needs."""
        return rankone_as(self._environment(), *self._training(settings))

    def _training(self, settings: dict[str, str]) -> list[str]:
        sets = [part for name, value in (SMALL | settings).items() for part in ("--set", f"{name}={value}")]
        return ["train", str(TINY), "--out", str(Path(self.directory, f"run-{free_port()}")), *sets]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "RAY_ADDRESS": self.address, "HOME": self.directory, "COLUMNS": "400"}

    def end(self) -> None:
        kill_all(processes_of(self.directory))
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One for three tests, in this order: it begins with one node, and each test that needs another adds it."""
    cluster = Cluster("--num-cpus=2", AUTOSCALER_UPDATE_INTERVAL_S="1")
    try:
        yield cluster
    finally:
        cluster.end()


def said_so_far(process: "subprocess.Popen[str]", pattern: str) -> str:
    """The line that the process was waited for to say."""
    assert process.stdout is not None
    seen: list[str] = []
    for line in process.stdout:
        seen.append(line)
        if re.search(pattern, line):
            return line
    raise AssertionError(f"it never said {pattern!r}: {''.join(seen)}")


def test_a_run_that_can_never_be_held_ends_at_once_and_says_what_there_is(cluster: Cluster) -> None:
    ended = cluster.trained(**{"placement.learner_resources": '{"huge" = 1}'})
    assert ended.returncode == 2, ended.stdout + ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("rankone:")]
    assert "asks for 0.1 CPU + 1 huge for the learner and 0.1 CPU for 1 rollout worker" in line
    assert "1 node(s) have 2 CPU" in line


def test_workers_are_spread_over_nodes_and_have_their_own_nodes_cores(cluster: Cluster) -> None:
    cluster.join("--num-cpus=6")
    script = """
import asyncio, ray, sys
from pathlib import Path
from rl.cluster.reservation import reserve
from rl.settings.toml import load_config
ray.init(sys.argv[1], namespace="rankone", log_to_driver=False, logging_level="ERROR")
async def main():
    config = load_config(Path(sys.argv[2]), ["runtime=ray", "rollout.num_workers=3"])
    async with reserve(config, learner=True) as held:
        print([held.worker(i).threads for i in range(3)], held.learner().threads)
    table = ray.util.placement_group_table()
    print({g["state"] for g in table.values()})
asyncio.run(main())
"""
    command = [sys.executable, "-c", script, cluster.address, str(TINY)]
    env = {**os.environ, "HOME": cluster.directory}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    threads, states = ended.stdout.splitlines()
    numbers = [int(number) for number in re.findall(r"\d+", threads)]
    assert sorted(numbers[:3]) in ([1, 1, 6], [2, 3, 3]), "two on one node share its cores, one has the other's alone"
    assert numbers[3] in (2, 6)
    assert states == "{'REMOVED'}", "what was held is given back"


def test_a_run_waits_for_nodes_that_are_to_come_and_for_others_to_end(cluster: Cluster) -> None:
    big = {"placement.learner_resources": '{"big" = 1}', "placement.wait_for_nodes": "yes"}
    first = cluster.train(num_steps="300", **big)
    assert "nodes that have them are to come" in said_so_far(first, "waiting for")
    cluster.join("--num-cpus=2", '--resources={"big": 1}')
    said_so_far(first, r"step +\d+|accuracy")
    second = cluster.train(num_steps="1", **big)
    assert "they are in use" in said_so_far(second, "waiting for")
    first.terminate()
    assert first.wait(60) == 130
    said, _ = second.communicate(timeout=120)
    assert second.returncode == 0, said


def test_whether_nodes_may_come_by_themselves_is_seen(tmp_path: Path) -> None:
    """A real monitor of Ray's, with a provider that could make nodes; the first test's monitor has none."""
    (tmp_path / "scale.json").write_text(json.dumps(AUTOSCALING))
    environment = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
    cluster = Cluster("--num-cpus=2", f"--autoscaling-config={tmp_path / 'scale.json'}", **environment)
    try:
        until(lambda: (Path(cluster.directory) / "session_latest/logs/monitor.log").read_text().count("Resources") > 1)
        process = cluster.train(**{"placement.learner_resources": '{"big" = 1}'})
        assert "nodes that have them are to come" in said_so_far(process, "waiting for")
        process.terminate()
        assert process.wait(60) == 130
    finally:
        cluster.end()


AUTOSCALING: dict[str, Any] = {
    "cluster_name": "test", "max_workers": 3, "idle_timeout_minutes": 1, "upscaling_speed": 1,
    "provider": {"type": "fake_multinode", "head_node_id": HEAD_NODE},
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 2}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": 2, "big": 1}, "node_config": {}, "min_workers": 0, "max_workers": 2},
    },
    "auth": {}, "docker": {}, "initialization_commands": [], "setup_commands": [], "head_setup_commands": [],
    "worker_setup_commands": [], "head_start_ray_commands": [], "worker_start_ray_commands": [], "file_mounts": {},
    "cluster_synced_files": [], "file_mounts_sync_continuously": False, "rsync_exclude": [], "rsync_filter": [],
}  # fmt: skip
