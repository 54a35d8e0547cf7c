"""How a command ends when something is wrong: one clear line, and an exit status."""

import errno
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
STORE_FULL = ("ObjectStoreFullError", "OutOfDiskError")
"""Ray's, when its objects fit neither into memory nor onto the disk that they spill to."""

P = ParamSpec("P")


def one_line_errors(command: Callable[P, None]) -> Callable[P, None]:
    """A user's mistake (ValueError) becomes one line and exit status 2, an end that we foresaw one line and status 1.

    `RANKONE_DEBUG=1` shows where it arose.
    """

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except Exception as error:
            line = one_line(error)
            if line is None or os.environ.get("RANKONE_DEBUG"):
                raise
            print(f"rankone: {line}", file=sys.stderr)
            raise typer.Exit(2 if isinstance(error, ValueError) else 1) from None

    return guarded


def one_line(error: Exception) -> str | None:
    """What happened and what to do about it, where that is known; None for a fault of the program."""
    if isinstance(error, OSError) and error.errno in FULL:
        place = error.filename or "the run's files"
        return f"cannot write {place}: {error.strerror}; make room, then go on with --resume"
    if type(error).__name__ in STORE_FULL:
        return (
            "Ray's object store is full, and so is the disk it spills to: make room below Ray's --temp-dir, or give "
            "the store more (ray start --object-store-memory), and go on with --resume; `ray memory` says what fills it"
        )
    ours = type(error).__module__.partition(".")[0] in ("lora", "rewards", "rl", "rollout")
    return str(error) if ours or isinstance(error, ValueError) else None
