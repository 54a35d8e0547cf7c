"""Opening files, and nothing else that may have a file's name: directories, FIFOs, sockets, devices, links to nothing.

A FIFO would make whoever opens it wait for ever, a device may never end, and a link may lead to somebody else's file.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Literal

_NOT_FILES = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV)
"""Error numbers of opening a link, a directory to be written, and a socket or FIFO with nobody at its other end."""
_FLAGS = {
    "rb": os.O_RDONLY,
    "ab": os.O_WRONLY | os.O_APPEND | os.O_CREAT,
    "a+b": os.O_RDWR | os.O_APPEND | os.O_CREAT,
}
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotOrdinary(OSError):
    """Something other than a regular file has that name."""


def open_ordinary(path: Path | str, flags: int, *, dir_fd: int | None = None, follow: bool = False) -> int:
    """Return the descriptor of a regular file, at once; the last part of `path` may be a link only with `follow`.

    Raises:
        NotOrdinary: it is a link, a directory, a FIFO, a socket or a device.
        OSError: as `os.open`.
    """
    no_link = 0 if follow else os.O_NOFOLLOW
    try:
        handle = os.open(path, flags | no_link | os.O_NONBLOCK | os.O_NOCTTY, 0o666, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in _NOT_FILES:
            raise NotOrdinary(errno.EINVAL, "it is no regular file", str(path)) from None
        raise
    kind = stat.S_IFMT(os.fstat(handle).st_mode)
    if kind != stat.S_IFREG:
        os.close(handle)
        raise _not_ordinary(path, kind)
    return handle


def open_file(path: Path, mode: Literal["rb", "ab", "a+b"] = "rb") -> BinaryIO:
    """Open a file of the user's, or one that a link of the user's leads to.

    Raises:
        NotOrdinary: it is something else, such as a directory, or a link to nothing.
        OSError: as `open`.
    """
    require_file(path)
    return os.fdopen(open_ordinary(path, _FLAGS[mode], follow=True), mode)


def read_file(path: Path, most_bytes: int | None = None) -> bytes:
    """Read a file of the user's, whole.

    Raises:
        ValueError: it is larger than `most_bytes`.
        NotOrdinary: it is no file.
        OSError: as `open`.
    """
    with open_file(path) as file:
        if most_bytes is None:
            return file.read()
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"{path} is larger than the {most_bytes / 2**20:g} MiB that such a file may have")
    return content


def require_file(path: Path) -> None:
    """See that nothing but a file has that name; there may be nothing at all.

    Raises:
        NotOrdinary: something else has it. A device is not even opened, which might do something.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        if path.is_symlink():
            raise NotOrdinary(errno.EINVAL, "it is a link to nothing", str(path)) from None
        return
    if kind != stat.S_IFREG:
        raise _not_ordinary(path, kind)


def require_directory(path: Path) -> None:
    """See that nothing but a directory has that name; there may be nothing at all.

    Raises:
        NotADirectoryError: something else has it.
    """
    if os.path.lexists(path) and not path.is_dir():
        what = "a link to nothing" if path.is_symlink() and not path.exists() else "no directory"
        raise NotADirectoryError(errno.ENOTDIR, f"it is {what}", str(path))


def is_ours(handle: int) -> bool:
    """Return True if an open file or directory belongs to this user."""
    return os.fstat(handle).st_uid == os.geteuid()


def _not_ordinary(path: Path | str, kind: int) -> NotOrdinary:
    return NotOrdinary(errno.EINVAL, f"it is {_KINDS.get(kind, 'something else')}, not a file", str(path))
