"""A directory in memory for the adapters that vLLM reads, and the removal of what killed workers left there.

A worker that is killed removes nothing. Every directory is locked for as long as its worker lives; the kernel drops a
dead process's lock, so the next worker that starts can tell which ones nobody needs.

All users of a machine share the place, so whatever lies there may be somebody else's, and meant to harm: nothing is
waited for, no link is followed, and what does not belong to this user is left alone, whatever its name.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path

from lora.files.ordinary_file import is_ours, open_ordinary

SHARED_MEMORY = Path("/dev/shm")
OPENMP = "__KMP_REGISTERED_LIB_"
"""libiomp5 registers a process by a file of this name, its id and its user's: `__KMP_REGISTERED_LIB_4711_1000`."""


LEAST_FREE = 2**29
"""Bytes of shared memory below which the disk is taken: a container has 64 MB unless it is told otherwise, which a few
adapters of a large model fill."""


class SharedMemoryDir:
    """A directory that this user alone can enter; in memory where there is enough shared memory, else on the disk."""

    def __init__(self, home: Path = SHARED_MEMORY) -> None:
        if not _has_room(home):
            home = Path(tempfile.gettempdir())
            remove_leftovers(home)
        self.path = Path(tempfile.mkdtemp(prefix=f"{_prefix()}{os.getpid()}-", dir=home))
        self._lock = (self.path / "locking").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        (self.path / "locking").rename(self.path / "lock")  # it has this name only once it is locked

    def close(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _has_room(home: Path) -> bool:
    """Return True if there is room for adapters, once those of killed workers are gone."""
    if not os.access(home, os.W_OK | os.X_OK):
        return False
    remove_leftovers(home)
    return shutil.disk_usage(home).free >= LEAST_FREE


def remove_leftovers(home: Path) -> None:
    """Remove what workers of this user left when they were killed. What a living one uses is never touched."""
    for directory in home.glob(f"{_prefix()}*"):
        if _is_abandoned(directory):
            shutil.rmtree(directory, ignore_errors=True)
    remove_openmp_files(home)


def remove_openmp_files(home: Path = SHARED_MEMORY, *, own: bool = False) -> None:
    """Remove what libiomp5 left of this user's dead processes; with ``own`` also this one's, which is about to die."""
    for file in home.glob(f"{OPENMP}*_{os.getuid()}"):
        pid = file.name.removeprefix(OPENMP).partition("_")[0]
        if pid.isdecimal() and (not Path("/proc", pid).exists() or (own and int(pid) == os.getpid())):
            with contextlib.suppress(OSError):
                _remove_own(file)


def _remove_own(file: Path) -> None:
    """Remove it if it is a file of this user's: anybody can give a file such a name."""
    status = file.lstat()
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
        file.unlink()


def _prefix() -> str:
    return f"rankone-{os.getuid()}-"


def _is_abandoned(directory: Path) -> bool:
    """Return True if it is this user's, and its lock is free. One that has no lock yet is being made this moment."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        inside = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        stack.callback(os.close, inside)
        lock = open_ordinary("lock", os.O_RDWR, dir_fd=inside)
        stack.callback(os.close, lock)
        if is_ours(inside) and is_ours(lock):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False
