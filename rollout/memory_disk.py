"""A directory in memory for the adapters that vLLM reads, and the removal of what killed workers left there.

A worker that is killed removes nothing. Every directory is locked for as long as its worker lives; the kernel drops a
dead process's lock, so the next worker that starts can tell which ones nobody needs.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "rankone-"
OPENMP = "__KMP_REGISTERED_LIB_"
"""libiomp5 registers a process by a file of this name, its id and its user's."""


class MemoryDirectory:
    """A directory of this process's own; in memory where there is shared memory, else on the disk."""

    def __init__(self, home: Path = SHARED_MEMORY) -> None:
        home = home if home.is_dir() else Path(tempfile.gettempdir())
        remove_leftovers(home)
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=home))
        self._lock = (self.path / "locking").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        (self.path / "locking").rename(self.path / "lock")  # it has this name only once it is locked

    def close(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def remove_leftovers(home: Path) -> None:
    """Remove what workers of this user left when they were killed. What a living one uses is never touched."""
    for directory in home.glob(f"{PREFIX}*"):
        if _is_abandoned(directory):
            shutil.rmtree(directory, ignore_errors=True)
    for file in home.glob(f"{OPENMP}*_{os.getuid()}"):
        pid = file.name.removeprefix(OPENMP).partition("_")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            file.unlink(missing_ok=True)


def _is_abandoned(directory: Path) -> bool:
    """Whether its lock is free. One that has no lock yet is being made this moment."""
    with contextlib.suppress(OSError), (directory / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
