"""One process of verifiers as its parent sees it: started, given episodes, and killed with all that it started."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
from typing import Any, cast

import psutil

from rl.data.verifiers import Origin

START_TIMEOUT_S = 300.0
"""Seconds in which an environment is to load."""
MARK = "RANKONE_VERIFIERS"
"""Names the variable that marks everything that a process starts, whatever session it is put into."""
LONGEST_LINE = 2**26
"""Bytes of an answer."""

Table = dict[str, Any]


class ProcessDiedError(Exception):
    """The process ended while it played."""


class VerifiersProcess:
    """A process that plays episodes. Everything here is for the event loop that started it."""

    def __init__(self, process: asyncio.subprocess.Process, mark: str) -> None:
        self._process, self._mark = process, mark
        self._playing: dict[str, asyncio.Future[Table]] = {}
        self._reading: asyncio.Task[None] | None = None
        self.alive = True

    @classmethod
    async def start(cls, origin: Origin, variables: dict[str, str], **setup: Any) -> "VerifiersProcess":
        """Return a process that has loaded its environment.

        Raises:
            ValueError: it cannot.
            ProcessDiedError: it died, or took too long.
        """
        mark = secrets.token_hex(16)
        inherited = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
        # Its own session: a Ctrl-C on the terminal reaches only the parent.
        process = await asyncio.create_subprocess_exec(
            *origin.command(), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LONGEST_LINE,
            start_new_session=True,
            env={
                **os.environ, "PYTHONPATH": os.pathsep.join([*origin.path, *inherited]), "PYTHONHASHSEED": "0",
                "OMP_NUM_THREADS": "1", MARK: mark, **variables,
            },
        )  # fmt: skip
        made = cls(process, mark)
        try:
            await made._load(origin.setup(**setup))
        except BaseException:
            await made.kill()
            raise
        return made

    @property
    def pid(self) -> int:
        return self._process.pid

    async def _load(self, setup: str) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._send(setup)
                line = await self._stdout.readline()
        except TimeoutError:
            raise ProcessDiedError(f"loaded no environment within {START_TIMEOUT_S:.0f} s") from None
        except OSError:
            line = b""
        if not line:
            raise ProcessDiedError(f"ended before it had loaded its environment ({await self._how()})")
        answer: Table = json.loads(line)
        if "error" in answer:
            raise ValueError(f"verifiers cannot load the environment: {answer['error']}")
        self._reading = asyncio.create_task(self._read())

    async def play(self, name: str, task: Table) -> Table:
        """Return what an episode came to. Raises ProcessDiedError."""
        if not self.alive:
            raise ProcessDiedError("was gone")
        self._playing[name] = answer = asyncio.get_running_loop().create_future()
        try:
            await self._send(json.dumps({"episode": name, "task": task}) + "\n")
            return await answer
        except OSError:
            raise ProcessDiedError(await self._how()) from None
        finally:
            self._playing.pop(name, None)

    async def cancel(self, name: str) -> None:
        """Ask for an episode's end, which comes as an answer if the process still listens."""
        with contextlib.suppress(OSError):
            await self._send(json.dumps({"episode": name, "cancel": True}) + "\n")

    async def kill(self) -> None:
        """End the process with all that it started; the episodes under way see that it died."""
        self.alive = False
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        if self._reading is not None and self._reading is not asyncio.current_task():
            await self._reading
        await asyncio.to_thread(_kill_marked, self._mark)

    async def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the pipe is gone, or a line is none of its own
            while line := await self._stdout.readline():
                answer = cast("Table", json.loads(line))
                if (waiting := self._playing.get(str(answer.get("episode")))) is not None and not waiting.done():
                    waiting.set_result(answer)
        self.alive = False
        how = await self._how()
        await asyncio.to_thread(_kill_marked, self._mark)  # programs and servers of its episodes outlive it
        for waiting in self._playing.values():
            if not waiting.done():
                waiting.set_exception(ProcessDiedError(how))

    async def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())
        await self._process.stdin.drain()

    @property
    def _stdout(self) -> asyncio.StreamReader:
        assert self._process.stdout is not None
        return self._process.stdout

    async def _how(self) -> str:
        """Return how the process ended, which it does a moment after its pipe."""
        try:
            async with asyncio.timeout(2.0):
                status = await self._process.wait()
        except TimeoutError:
            return "closed its output"
        return f"died of {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"


def _kill_marked(mark: str) -> None:
    """End everything that was started under a mark, and what it started meanwhile."""
    for _ in range(10):
        marked = [process for process in psutil.process_iter() if _has_mark(process, mark)]
        if not marked:
            return
        for process in marked:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(marked, timeout=1.0)


def _has_mark(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):  # it is another user's, or has gone
        return False
