"""Processes that can be found again by a mark that they inherited: what a failed start left is ended, and no more."""

import os
import secrets
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import psutil

TAG = "RANKONE_START"
PATIENCE_S = 10.0


@contextmanager
def kill_on_failure() -> Generator[dict[str, str]]:
    """What to add to the environment of processes that are to be gone if the block fails or is interrupted."""
    mark = {TAG: secrets.token_hex(8)}
    try:
        yield mark
    except BaseException:
        kill_tagged(mark)
        raise


def kill_tagged(mark: Mapping[str, str]) -> None:
    """Kill whatever was started with that mark, and wait until it is gone."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := find_tagged(mark)) and time.monotonic() < deadline:
        for process in found:
            try:
                process.kill()
            except psutil.Error:  # it was quicker
                continue
        psutil.wait_procs(found, timeout=1)


def find_tagged(mark: Mapping[str, str]) -> list[psutil.Process]:
    """All processes with that mark, except this one. Those of other users do not show theirs, and have none of ours."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(TAG) == mark[TAG]:
                found.append(process)
        except psutil.Error:
            continue
    return found
