"""Ctrl-C and SIGTERM end a run in order, and within a bounded time though something hangs."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import psutil
import pytest
from helpers.cluster import ROOT, until

from rl.cluster.interrupts import in_daemon

RUN = """
import asyncio, os, sys, time
import rl.cluster.interrupts
from rl.cluster.interrupts import cancel_on_signals, ended_by_signals
rl.cluster.interrupts.UNWIND_S = float(sys.argv[1])

async def work():
    cancel_on_signals()
    print("begun", flush=True)
    try:
        {wait}
    finally:
        print("closed", flush=True)

try:
    with ended_by_signals():
        asyncio.run(work())
except asyncio.CancelledError:
    print("cancelled", flush=True)
"""
IN_ORDER, BLOCKED = "await asyncio.sleep(600)", "time.sleep(600)  # as a call into a library: the loop hears nothing"


def begun(wait: str, unwind_s: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", RUN.format(wait=wait), str(unwind_s)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes_what_was_opened(number: signal.Signals) -> None:
    process = begun(IN_ORDER, 600)
    process.send_signal(number)
    said, complained = process.communicate(timeout=60)
    assert (process.returncode, said, complained) == (0, "closed\ncancelled\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_hangs_is_ended_when_its_time_is_over(number: signal.Signals) -> None:
    process = begun(BLOCKED, 0.5)
    process.send_signal(number)
    said, complained = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "")
    assert complained.startswith("rankone: ended (and it did not end within 0.5 s)")
    assert complained.count("\n") == 1


def test_a_second_signal_does_not_wait() -> None:
    process = begun(BLOCKED, 600)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130


async def test_nobody_waits_for_a_daemons_call_that_is_not_wanted_any_more() -> None:
    let_go = threading.Event()
    task = asyncio.ensure_future(in_daemon(lambda: let_go.wait(60)))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    let_go.set()


async def test_a_daemons_error_is_its_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_daemon(lambda: 1 // 0)


def test_a_run_whose_raylet_hangs_is_ended_with_all_its_processes(tmp_path: Path) -> None:
    mark, out = uuid.uuid4().hex, tmp_path / "run"

    def ours() -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                found += [process] if process.environ().get("MARK") == mark else []
            except psutil.Error:
                continue
        return found

    sets = {
        "runtime": "ray", "num_steps": 100_000, "problems_per_step": 4, "sampling.group_size": 2, "reward.workers": 1,
        "evaluate.num_problems": 2,
    }  # fmt: skip
    arguments = ["train", "examples/tiny.toml", "--out", str(out)]
    arguments += [part for name, value in sets.items() for part in ("--set", f"{name}={value}")]
    script = "import rl.cluster.interrupts; rl.cluster.interrupts.UNWIND_S = 3; from rl.cli.app import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"MARK": mark, "RAY_ADDRESS": "local"},
    )  # fmt: skip
    try:
        metrics = out / "metrics.jsonl"
        until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 2, 240)
        (raylet,) = (process for process in ours() if process.name() == "raylet")
        raylet.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in said
        assert "--resume" in said
        until(lambda: ours() == [], 60)
    finally:
        for left in ours():
            left.kill()
        process.wait()
