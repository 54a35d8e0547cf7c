"""One process at a time writes a run's directory, or a sweep's and those of its runs.

The kernel lets go of a lock when the process that took it ends, however it ends.
"""

import fcntl
import logging
import os
import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from lora.files.ordinary_file import NotOrdinary, open_ordinary

log = logging.getLogger(__name__)

NAME = ".lock"
SWEEP = "sweep.toml"
"""A file by which a directory is known as a sweep's, and those below it as its runs'."""


class InUse(ValueError):
    """Another process writes to the directory."""


@contextmanager
def locked(directory: Path) -> Generator[None]:
    """Make the directory if it is not there, and keep other processes, on any node that sees it, from writing to it.

    Raises:
        InUse: another process has it.
        ValueError: it cannot be made, or something that is no file has the lock's name.
    """
    _make(directory)
    with _lock_file(directory, os.O_RDWR | os.O_CREAT) as lock:
        _take(lock, fcntl.LOCK_EX, directory)
        lock.seek(0)
        lock.truncate()
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        yield


@contextmanager
def sweep_locked(directory: Path) -> Generator[None]:
    """Keep others from writing to a sweep's directory, and by `outside_a_sweep` to any of its runs'.

    Raises:
        InUse: another process has it, or one of its runs'.
        ValueError: as `locked`.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(directory))
        except InUse as sweep:
            raise _run_in_use(directory) or sweep from None
        yield


@contextmanager
def outside_a_sweep(directory: Path) -> Generator[None]:
    """Keep the sweep that a run is part of, if it is, from going on meanwhile. Its other runs may.

    Raises:
        InUse: the sweep is going on.
    """
    sweep = directory.resolve().parent
    if not (sweep / SWEEP).exists() or not (sweep / NAME).exists():
        yield
        return
    with _lock_file(sweep, os.O_RDONLY) as lock:
        _take(lock, fcntl.LOCK_SH, sweep)
        yield


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write the directory {directory}: {error.strerror}; choose another --out") from error


@contextmanager
def _lock_file(directory: Path, flags: int) -> Generator[TextIO]:
    try:
        handle = open_ordinary(directory / NAME, flags)
    except NotOrdinary:
        raise ValueError(
            f"{directory / NAME} is to be a file, and is something else; remove it, or choose another --out"
        ) from None
    with os.fdopen(handle, "r+" if flags & os.O_RDWR else "r", errors="replace") as lock:
        yield lock


def _take(lock: TextIO, kind: int, directory: Path) -> None:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = " ".join(lock.read(200).split()) or "it has just begun"
        raise InUse(f"another run writes to {directory} ({holder}); stop it first, or choose another --out") from None
    except OSError as error:
        log.warning("%s cannot be locked (%s): see to it that no other run writes to it", directory, error)


def _in_use(directory: Path) -> InUse | None:
    """Return the refusal if a process has the lock for itself; one that shares it has not."""
    with _lock_file(directory, os.O_RDONLY) as lock:
        try:
            _take(lock, fcntl.LOCK_SH, directory)
        except InUse as refusal:
            return refusal
    return None


def _run_in_use(sweep: Path) -> InUse | None:
    """Return the refusal that names the sweep's run which is being written; None while the sweep itself is."""
    if _in_use(sweep) is not None:
        return None
    for lock in sorted(sweep.glob(f"*/{NAME}")):
        with suppress(OSError, ValueError):
            if (run := _in_use(lock.parent)) is not None:
                return run
    return None
