"""A cluster that is taken away under a run: the run ends soon, in one line, and can be resumed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from helpers.cluster import RANKONE, ROOT, SMALL, free_port, rankone

from lora.peft.files import read_peft
from rl.cluster import watchdog
from rl.cluster.connect import disconnect
from rl.cluster.watchdog import ClusterLost, Endpoint, cancel_when_gone


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs, unlike these tests, end with their process: here it must outlive the clusters that are lost."""
    monkeypatch.setattr(watchdog, "PROBE_INTERVAL_S", 0.02)
    monkeypatch.setattr(watchdog, "GRACE_S", 60.0)
    yield
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()


async def listener(port: int) -> asyncio.Server:
    return await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)


def anchor(port: int, patience_s: float = 0.2) -> Endpoint:
    return Endpoint("a head", "127.0.0.1", port, patience_s)


@pytest.mark.usefixtures("hasty")
async def test_what_goes_away_for_good_ends_the_block_and_what_comes_back_in_time_does_not() -> None:
    port = free_port()
    server, done = await listener(port), list[str]()

    async def life() -> None:
        nonlocal server
        async with cancel_when_gone([anchor(port, patience_s=1.0)]):
            await asyncio.sleep(0.3)
            done.append("it was there")
            server.close()
            await asyncio.sleep(0.3)
            server = await listener(port)
            await asyncio.sleep(1.5)
            done.append("it was back")
            server.close()
            await asyncio.sleep(20)
            done.append("it was gone")

    with pytest.raises(ClusterLost, match=rf"a head at 127\.0\.0\.1:{port} is gone.*--resume"):
        await life()
    assert done == ["it was there", "it was back"]


@pytest.mark.usefixtures("hasty")
async def test_a_block_that_ends_or_is_cancelled_by_somebody_else_is_left_alone() -> None:
    port = free_port()
    async with await listener(port):
        async with cancel_when_gone([anchor(port)]):
            await asyncio.sleep(0.1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), cancel_when_gone([anchor(port)]):
                await asyncio.sleep(20)
    await asyncio.sleep(0.5)  # nobody watches any more


@pytest.mark.usefixtures("hasty")
async def test_a_process_that_has_left_the_lost_cluster_lives_on() -> None:
    """It may be a notebook, whose user goes on with --resume in it."""
    with pytest.raises(ClusterLost):
        async with cancel_when_gone([anchor(free_port())]):
            await asyncio.sleep(20)
    endings = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    assert endings, "until then the process would be ended, because Ray's calls may hang"
    disconnect()
    for ending in endings:
        ending.join(5)
    assert not any(ending.is_alive() for ending in endings)


HANGING = """
import asyncio, sys, time
from rl.cluster import watchdog
watchdog.PROBE_INTERVAL_S, watchdog.GRACE_S = 0.02, 0.5

async def main():
    async with watchdog.cancel_when_gone([watchdog.Endpoint("a head", "127.0.0.1", int(sys.argv[1]), 0.1)]):
        try:
            await asyncio.sleep(20)
        finally:
            time.sleep(20)

asyncio.run(main())
"""


def test_a_block_that_hangs_in_its_clean_up_ends_with_the_process_and_the_same_words() -> None:
    command = [sys.executable, "-c", HANGING, str(free_port())]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=15)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1), ended.stderr
    assert ended.stderr.startswith("rankone: a head at 127.0.0.1:")


def steps(out: Path) -> list[int]:
    file = out / "metrics.jsonl"
    return [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.exists() else []


def command(out: Path, *more: str, **settings: str) -> list[str]:
    sets = [part for name, value in (SMALL | settings).items() for part in ("--set", f"{name}={value}")]
    return [str(RANKONE), "train", str(ROOT / "examples" / "tiny.toml"), "--out", str(out), *sets, *more]


def test_a_run_whose_cluster_loses_its_head_ends_and_is_resumed_without_it(
    tmp_path: Path, soon_gone: Callable[..., object]
) -> None:
    out = tmp_path / "run"
    with subprocess.Popen(
        command(out, num_steps="100000"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        try:
            deadline = time.monotonic() + 120
            while len(steps(out)) < 3:
                assert run.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            family = psutil.Process(run.pid).children(recursive=True)
            (head,) = [process for process in family if process.name() == "gcs_server"]
            os.kill(head.pid, signal.SIGKILL)
            _, said = run.communicate(timeout=45)
        finally:
            run.kill()
    lines = [line for line in said.splitlines() if line.startswith("rankone: ")]
    assert (run.returncode, len(lines)) == (1, 1), said
    assert "Ray's head at" in lines[0]
    assert "Traceback" not in said
    done = steps(out)
    assert done == list(range(len(done)))
    assert read_peft(out / "adapters" / "last")
    resumed = rankone(*command(out, "--resume", num_steps=str(len(done) + 2), runtime="local")[1:])
    assert resumed.returncode == 0, resumed.stderr
    assert steps(out) == list(range(len(done) + 3))
    soon_gone(family, 150)
