"""One grading process as its parent sees it: started, given items, waited for, asked where it is, and killed.

It is started as a bare interpreter, not by `multiprocessing`: nothing of the parent is imported again (its ``__main__``
may be a console script or a Ray worker) and nothing is forked from a process full of threads. Only the messages are
framed by `multiprocessing.connection`. `worker` is the other side.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

from rewards.grading.messages import Graded, Item, Setup
from rewards.grading.stack import STACK_SIGNAL

START_TIMEOUT_S = 120.0
"""A worker may take this long to import what its functions need."""
MARK = "RANKONE_WORKER"
"""Names the variable that marks what a worker starts, by which it is found when the worker has died itself."""
LAST_WORDS_S = 2.0
"""A worker whose connection has closed leaves its exit status, and one that is asked its stack, within this time."""

_BOOT = """
import importlib.util, json, sys
path, init, descriptor, parent, stack = sys.argv[1:]
sys.path[:] = json.loads(path)
spec = importlib.util.spec_from_file_location("rewards", init)  # whatever else on the path is called so
sys.modules["rewards"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["rewards"])
from rewards.grading.worker import main
main(int(descriptor), int(parent), int(stack))
"""
_INIT = str(Path(__file__).parents[1] / "__init__.py")


class WorkerProcess:
    """One child process and the connection to it. Every method but `stop` is for one thread at a time."""

    ENTRY = "rewards.grading.worker"
    """Module whose `main` the process runs."""
    LOADS = "a grading process could not load the reward function"
    """Beginning of the message where it cannot."""

    def __init__(self, setup: Setup) -> None:
        self._connection, childs_end = Pipe()
        self._mark = secrets.token_hex(16)
        self._stack = tempfile.TemporaryFile()  # noqa: SIM115
        path = json.dumps([p or os.getcwd() for p in sys.path])  # noqa: PTH109
        descriptors = childs_end.fileno(), self._stack.fileno()
        boot = _BOOT.replace("rewards.grading.worker", self.ENTRY)
        # Its own session: a Ctrl-C on the terminal reaches only the parent. What functions print goes to stderr.
        self._process = subprocess.Popen(
            [sys.executable, "-c", boot, path, _INIT, str(descriptors[0]), str(os.getpid()), str(descriptors[1])],
            stdin=subprocess.DEVNULL,
            stdout=2,
            pass_fds=descriptors,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", MARK: self._mark},
        )
        childs_end.close()
        self._setup: Setup | None = setup

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> None:
        """Return when the worker can grade. Raises ValueError with its traceback when it cannot load the functions,
        TimeoutError when it takes too long, OSError or EOFError when it died."""
        if self._setup is None:
            return
        self._connection.send(self._setup)
        problem = self._receive(START_TIMEOUT_S)
        if problem is not None:
            raise ValueError(f"{self.LOADS}:\n{problem}")
        self._setup = None

    def submit(self, items: Sequence[Item]) -> None:
        """Send work. Raises OSError when the process died."""
        self._connection.send(items)

    def next_graded(self, deadline_s: float) -> Graded:
        """Return the next item's rewards. Raises TimeoutError past the deadline, OSError or EOFError when the process
        died, in the middle of a message too."""
        graded = self._receive(deadline_s)
        assert isinstance(graded, Graded)
        return graded

    def ask(self, message: Any, deadline_s: float) -> Any:
        """Return the answer to a message. Raises as `next_graded` does."""
        self._connection.send(message)
        return self._receive(deadline_s)

    def _receive(self, timeout_s: float) -> Any:
        if not self._connection.poll(timeout_s):
            raise TimeoutError
        return self._connection.recv()

    def stack(self) -> str:
        """Return where the process is now, the innermost call first. It answers even in the middle of a call into C."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(STACK_SIGNAL)
        for _ in range(int(LAST_WORDS_S / 0.02)):
            time.sleep(0.02)
            self._stack.seek(0)
            if (written := self._stack.read().decode(errors="replace")).count("\n") > 1:
                return written
        return ""

    def stop(self) -> None:
        """End the process, from any thread; whoever waits for it sees that it died."""
        self._process.kill()

    def kill(self, patience_s: float = 0.0) -> str:
        """End the process with all that it started, and return how it ended. One that is ending by itself gets
        ``patience_s`` to do so: its connection closes before its exit status is there."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)
        status = self._process.poll()
        started = _descendants(self._process.pid) if status is None else _marked(self._mark)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its session is its own
        for pid in started:  # and those of what it put into sessions of their own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._connection.close()
        self._stack.close()
        if status is None:
            return "was killed"
        return f"died of {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"


def _descendants(pid: int) -> list[int]:
    """Return the processes below one, which is stopped first, so that it starts no more; none without /proc."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGSTOP)
    return _below(pid)


def _below(pid: int) -> list[int]:
    try:
        lists = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
    children = [int(child) for text in lists for child in text.split()]
    return [*children, *(below for child in children for below in _below(child))]


def _marked(mark: str) -> list[int]:
    """Return the processes that were started under a mark; none where there is no /proc."""
    entry = f"{MARK}={mark}".encode()
    marked: list[int] = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # another user's, or it has gone
            if entry in place.read_bytes().split(b"\0"):
                marked.append(int(place.parent.name))
    return marked
