"""Processes that a failed start has left are ended, whoever their parent is by then; no others are."""

import os
import subprocess
import sys

import psutil
import pytest

from rl.jobs.process_tags import find_tagged, kill_on_failure

ORPHAN = """
import subprocess
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
print(subprocess.Popen(["sleep", "60"], start_new_session=True, **quiet).pid)
"""


def orphan(environment: dict[str, str]) -> psutil.Process:
    """A process in a session of its own, whose parent is gone."""
    ended = subprocess.run(
        [sys.executable, "-c", ORPHAN], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return psutil.Process(int(ended.stdout))


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def start_and_fail(started: list[psutil.Process], failure: type[BaseException]) -> None:
    with kill_on_failure() as mark:
        started.append(orphan(mark))
        assert [process.pid for process in find_tagged(mark)] == [started[0].pid]
        raise failure


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_what_a_failed_start_left_is_ended_and_nothing_else(failure: type[BaseException]) -> None:
    other, started = orphan({}), list[psutil.Process]()
    try:
        with pytest.raises(failure):
            start_and_fail(started, failure)
        assert gone(started[0])
        assert not gone(other)
    finally:
        other.kill()


def test_what_a_start_that_succeeded_left_goes_on() -> None:
    with kill_on_failure() as mark:
        mine = orphan(mark)
    assert not gone(mine)
    mine.kill()
