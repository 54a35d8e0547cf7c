"""Opening a file in a place where others may have put something else under its name.

A FIFO of that name would make whoever opens it wait for ever, and a link would lead to somebody else's file.
"""

import errno
import os
import stat
from pathlib import Path

_NOT_FILES = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV)
"""What opening gives for a link, a directory to be written, and a socket or FIFO with nobody at its other end."""


class NotOrdinary(OSError):
    """Something other than a regular file has that name."""


def open_ordinary(path: Path | str, flags: int, *, dir_fd: int | None = None) -> int:
    """Return the descriptor of a regular file, at once; the last part of `path` may not be a link.

    Raises:
        NotOrdinary: it is a link, a directory, a FIFO, a socket or a device.
        OSError: as `os.open`.
    """
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in _NOT_FILES:
            raise NotOrdinary(errno.EINVAL, "it is no regular file", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotOrdinary(errno.EINVAL, "it is no regular file", str(path))
    return handle


def is_ours(handle: int) -> bool:
    """Return True if an open file or directory belongs to this user."""
    return os.fstat(handle).st_uid == os.geteuid()
