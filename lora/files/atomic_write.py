"""Files that are whole or not there, also after a kill or a power failure in the middle of writing them."""

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from lora.files.ordinary_file import require_directory, require_file


def write_atomic(path: Path, content: bytes) -> Path:
    """Put `content` under that name in one step: whoever looks sees what was there before, or all of this.

    It is written beside `path` first, under a name with a leading dot, which a kill may leave there. A link of that
    name stays, and what it leads to is written.

    Raises:
        NotOrdinary: something that is no file has that name.
        OSError: with the file's name in it, so that a user knows where there is no room.
    """
    with with_filename(path):
        require_file(path)
        _write(Path(os.path.realpath(path)), content)
    return path


@contextmanager
def new_directory(path: Path) -> Generator[Path]:
    """Fill a directory that has its name only once it is whole: the block writes into the one that it is given.

    An empty directory that is there already, perhaps a disk of its own, is kept and filled.

    Raises:
        ValueError: there is a file of that name, a directory that is not empty, or no place for one.
        OSError: the disk is full, or fails.
    """
    require_new(path)
    inside = path.is_dir()
    home = path if inside else path.parent
    try:
        with suppress(FileExistsError):  # what is no directory says so itself, in the next line
            home.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=home, prefix=f".{path.name[:100]}-"))
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}; choose another --out") from error
    try:
        yield scratch
        with with_filename(path):
            scratch.chmod(0o755)
            if inside:
                for entry in sorted(scratch.iterdir()):
                    entry.rename(path / entry.name)
            else:
                scratch.rename(path)
            sync(home)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def require_new(path: Path) -> None:
    """See that a directory can be made there, or is there and empty. Raises ValueError if not."""
    try:
        require_directory(path)
        if path.is_dir() and any(path.iterdir()):
            raise ValueError(f"{path} is not empty; choose another --out")
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}; choose another --out") from None


@contextmanager
def with_filename(path: Path) -> Generator[None]:
    """Say of every OSError that it is about this file; the kernel does not, where a file is written that was open, and
    names one that the user does not know, where it was to become this one."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def _write(path: Path, content: bytes) -> None:
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}-")
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
