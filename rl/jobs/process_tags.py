"""Processes that carry a tag in their environment, so that a failed start can end those it left, and no others."""

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
    """Yield variables for the environment of processes that must be gone if the block fails or is interrupted."""
    tag = {TAG: secrets.token_hex(8)}
    try:
        yield tag
    except BaseException:
        kill_tagged(tag)
        raise


def kill_tagged(tag: Mapping[str, str]) -> None:
    """Kill all processes that were started with that tag, and wait until they are gone."""
    deadline = time.monotonic() + PATIENCE_S
    while (tagged := find_tagged(tag)) and time.monotonic() < deadline:
        for process in tagged:
            try:
                process.kill()
            except psutil.Error:  # it was quicker
                continue
        psutil.wait_procs(tagged, timeout=1)


def find_tagged(tag: Mapping[str, str]) -> list[psutil.Process]:
    """Return all processes with that tag, except this one.

    Other users' environments are unreadable, and cannot carry our tag.
    """
    tagged: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(TAG) == tag[TAG]:
                tagged.append(process)
        except psutil.Error:
            continue
    return tagged
