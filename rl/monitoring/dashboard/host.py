"""The page host: a detached actor on a cluster's head that keeps the runs and serves their page.

It outlives the jobs. Ray restarts it when it dies, on the same port, and it reads the runs back from the head's disk.
"""

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import ray
from aiohttp import web
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rl.monitoring.dashboard.server import PREFIX, application
from rl.monitoring.dashboard.store import RunStore
from rl.monitoring.dashboard.types import RunInfo, RunUpdate

log = logging.getLogger(__name__)

NAME, NAMESPACE = "rankone-page", "rankone"


class DashboardActor:
    """The actor's own side. Its address is loopback alone: people come through Ray's dashboard and its token."""

    def __init__(self, directory: str, port: int) -> None:
        self._store = RunStore(Path(directory).expanduser())
        self._port = port
        # From here and not from a call: nobody calls an actor that Ray has restarted.
        self._serving = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        runner = web.AppRunner(application(self._store), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port).start()

    async def port(self) -> int:
        """Return the port that it serves on, once it does. Raises OSError if the port is taken."""
        await self._serving
        return self._port

    async def register(self, info: RunInfo) -> tuple[str, int]:
        """Return the id of a run that will send updates, and how many of its rows are stored."""
        run = self._store.register(info)
        return run, self._store.known(run)

    async def push(self, run: str, update: RunUpdate) -> int:
        """Apply an update; return how many rows are stored now. Raises KeyError if the run is unknown."""
        return self._store.apply(run, update)

    async def store_sweep(self, job: str, results: bytes) -> None:
        """Store what a job's sweep has found so far."""
        self._store.store_sweep(job, results)

    async def pid(self) -> int:
        return os.getpid()


def default_directory() -> str:
    """Return the directory on the head that keeps the runs it shows."""
    return os.environ.get("RANKONE_PAGE_DIR", "~/.cache/rankone/runs")


def start_host(port: int, directory: str | None = None) -> str:
    """Start the page host on the head of the connected cluster, and return the page's loopback address.

    A host that is there already is left as it is.
    """
    actor: Any = ray.remote(DashboardActor)
    head = next(node for node in ray.nodes() if node["Alive"] and "node:__internal_head__" in node["Resources"])
    handle = actor.options(
        name=NAME, namespace=NAMESPACE, get_if_exists=True, lifetime="detached", num_cpus=0, max_restarts=-1,
        max_task_retries=3, max_concurrency=32,
        scheduling_strategy=NodeAffinitySchedulingStrategy(head["NodeID"], soft=False),
    ).remote(directory or default_directory(), port)  # fmt: skip
    return f"http://127.0.0.1:{ray.get(handle.port.remote())}{PREFIX}"


def find_host() -> Any | None:
    """Return the page host of the cluster that this process is connected to, if there is one."""
    try:
        return ray.get_actor(NAME, namespace=NAMESPACE)
    except ValueError:
        return None
