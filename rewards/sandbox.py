"""A hostile program in a room of its own, from outside: started, read with bounds, killed with all that it began."""

import functools
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from rewards.sandbox_init import NO_ROOM

_INIT = str(Path(__file__).with_name("sandbox_init.py"))
START_S = 2.0
"""Seconds beside its own that a program may take: a start on a busy machine."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What each of a program's processes may take. The file system, in memory, is for all of them together."""

    cpu_s: int
    memory_mb: int
    processes: int = 4
    disk_mb: int = 16


class Room:
    """One program with ``files`` in ``/box``, where it starts. It is gone when the block ends, however it ends."""

    def __init__(
        self,
        files: Mapping[str, str],
        command: Sequence[str],
        limits: Limits,
        *,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.PIPE,
        stderr: int = subprocess.DEVNULL,
    ) -> None:
        """``command`` are Python's arguments."""
        with tempfile.TemporaryFile("w+") as settings:
            json.dump({**asdict(limits), "files": dict(files)}, settings)
            settings.seek(0)
            self._process = subprocess.Popen(
                [os.path.realpath(sys.executable), "-I", "-S", _INIT, str(settings.fileno()), *command],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(settings.fileno(),),
                start_new_session=True,
                env={},
            )

    @property
    def pipes(self) -> "subprocess.Popen[bytes]":
        """The process, for its pipes."""
        return self._process

    def wait(self, timeout_s: float) -> int:
        """Return its exit status. Raises `subprocess.TimeoutExpired`."""
        return self._process.wait(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.kill()  # which ends the first process of the namespace, and that all others
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def read_within(pipe: IO[bytes], until: float, most: int) -> bytes | None:
    """Return what comes before the pipe's end; None if that is too much, or takes longer than until that time."""
    parts, size = list[bytes](), 0
    while (part := read_part(pipe, until)) != b"":
        if part is None or (size := size + len(part)) > most:
            return None
        parts.append(part)
    return b"".join(parts)


def read_part(pipe: IO[bytes], until: float) -> bytes | None:
    """Return what has come, as soon as something has; nothing at its end, None if nothing comes before that time."""
    ready, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
    return os.read(pipe.fileno(), 2**16) if ready else None


@functools.cache
def check_room() -> None:
    """Raises RuntimeError of one line if this machine cannot hold a hostile program."""
    errors: dict[str, Any] = {"stderr": subprocess.PIPE}
    with Room({}, ["-c", "print('here')"], Limits(cpu_s=10, memory_mb=512), **errors) as room:
        assert room.pipes.stdout is not None
        assert room.pipes.stderr is not None
        until = time.monotonic() + 60
        if read_within(room.pipes.stdout, until, 2**16) != b"here\n":
            reason = (read_within(room.pipes.stderr, until, 2**16) or b"").decode(errors="replace").strip()
            status = room.wait(60)
            raise RuntimeError(
                f"programs cannot be run safely on this machine (status {status}{' = NO_ROOM' * (status == NO_ROOM)}): "
                f"{reason or 'no reason given'}; the kernel must allow user namespaces (unshare -U true)"
            )
