"""Files that are whole or not there, also after a kill or a power failure in the middle of writing them."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


def write_file(path: Path, content: bytes) -> Path:
    """Put `content` under that name in one step: whoever looks sees what was there before, or all of this.

    It is written beside `path` first, under a name with a leading dot, which a kill may leave there.

    Raises:
        OSError: with the file's name in it, so that a user knows where there is no room.
    """
    with naming(path):
        _write(path, content)
    return path


@contextmanager
def naming(path: Path) -> Generator[None]:
    """Say of every OSError which file it is about; the kernel does not, where a file is written that was open."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _write(path: Path, content: bytes) -> None:
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).replace(path)
    finally:
        Path(scratch).unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Bring a file's content, or a directory's list of names, onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
