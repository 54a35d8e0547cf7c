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
from typing import IO, Self

_INIT = str(Path(__file__).with_name("sandbox_init.py"))
START_S = 2.0
"""Seconds beside its own that a program may take: the start of its Python on a busy machine."""
ROOM_S = 30.0
"""Seconds in which a room is made, or cannot be had."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of each of a program's processes. The file system, in memory, is for all of them together."""

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
        """``command`` are Python's arguments. Raises OSError if this machine starts no more processes."""
        read_end, status_end = os.pipe()
        self._status = os.fdopen(read_end, "rb", buffering=0)
        try:
            with tempfile.TemporaryFile("w+") as settings:
                json.dump({**asdict(limits), "files": dict(files)}, settings)
                settings.seek(0)
                descriptors = settings.fileno(), status_end
                self._process = subprocess.Popen(
                    [os.path.realpath(sys.executable), "-I", "-S", _INIT, *map(str, descriptors), *command],
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    pass_fds=descriptors,
                    start_new_session=True,
                    env={},
                )
        except BaseException:
            self._status.close()
            raise
        finally:
            os.close(status_end)

    @property
    def pipes(self) -> "subprocess.Popen[bytes]":
        """The process, for its pipes."""
        return self._process

    def require_begun(self) -> None:
        """Wait until the program begins. Raises RuntimeError if it cannot, which is not its fault."""
        status = read_within(self._status, time.monotonic() + ROOM_S, 2**12)
        if status != b"+":
            reason = f"not begun within {ROOM_S:g} s" if status is None else status.decode(errors="replace").lstrip("+")
            raise RuntimeError(f"no room for a hostile program: {reason or 'its start was killed'}")

    def wait(self, timeout_s: float) -> int:
        """Return its exit status. Raises `subprocess.TimeoutExpired`."""
        return self._process.wait(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.kill()  # which ends the first process of the namespace, and that all others
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr, self._status):
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
    with Room({}, ["-c", "print('here')"], Limits(cpu_s=10, memory_mb=512)) as room:
        try:
            room.require_begun()
        except RuntimeError as error:
            raise RuntimeError(
                f"programs cannot be run safely on this machine: {error}; the kernel must allow user namespaces "
                "(unshare -U true)"
            ) from None
        assert room.pipes.stdout is not None
        if read_within(room.pipes.stdout, time.monotonic() + ROOM_S, 2**16) != b"here\n":
            raise RuntimeError("programs cannot be run safely on this machine: Python does not start in a sandbox")
