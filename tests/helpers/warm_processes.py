"""Processes of Ray's and our commands as copies of others that have loaded torch, transformers, Ray and vLLM already.

Loading them takes such a process most of its start, and the tests start hundreds. `warm_server.py` makes the copies, and
`warm_start/sitecustomize.py`, which Python reads when it starts, asks for them.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

VARIABLE = "RANKONE_WARM_PROCESSES"
"""Has the address at which copies are asked for. Processes that start without it start as ever."""
HERE = Path(__file__).parent
SERVER = HERE / "warm_server.py"


class WarmProcesses:
    """The process that makes them, for all that this one starts from now on; it ends with `close` or with this one."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="warm-")
        address = f"{self._directory.name}/s"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(address)
        listener.listen(128)
        self._process = subprocess.Popen(
            [sys.executable, SERVER, str(listener.fileno())], stdin=subprocess.PIPE, pass_fds=[listener.fileno()],
            start_new_session=True,
        )  # fmt: skip
        listener.close()
        os.environ[VARIABLE] = address
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [str(HERE / "warm_start"), *filter(None, [os.environ.get("PYTHONPATH")])]
        )

    def close(self) -> None:
        """End them; what was copied from them goes on."""
        del os.environ[VARIABLE]
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()
        self._directory.cleanup()


def environment_of(process: psutil.Process) -> dict[str, str]:
    """Return the variables that a process was given, also where it is a copy, of which the kernel does not know them."""
    about = _about_copy(process)
    return process.environ() if about is None else about["environment"]


def descendants(pid: int) -> list[psutil.Process]:
    """Return all processes below that one, with the copies that others stand for, and without those that are warm."""
    copies: dict[int, list[psutil.Process]] = {}
    warm: set[int] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if (about := _about_copy(process)) is not None:
                copies.setdefault(about["stand_in"], []).append(process)
            elif str(SERVER) in process.cmdline():
                warm.add(process.pid)
    family: list[psutil.Process] = []
    parents = [psutil.Process(pid)]
    for parent in parents:
        with contextlib.suppress(psutil.NoSuchProcess):
            children = [child for child in parent.children() if child.pid not in warm]
            members = children + copies.get(parent.pid, [])
            family += members
            parents += members
    return family


def _about_copy(process: psutil.Process) -> dict[str, Any] | None:
    """Return what is known of a copy; None of any other process."""
    noted = Path(os.environ.get(VARIABLE, "/nowhere/s")).with_name(str(process.pid))
    if not noted.exists() or noted.stat().st_mtime < process.create_time() - 1:  # of an earlier process of that number
        return None
    return json.loads(noted.read_text())
