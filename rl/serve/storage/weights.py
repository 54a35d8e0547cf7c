"""Saved weights as files: in a directory here, or wherever fsspec reaches (`s3://...`, `gs://...`)."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import fsspec

from lora.files.atomic_write import new_directory, write_atomic
from lora.files.ordinary_file import read_file
from lora.messages import single_line

Files = Mapping[str, bytes]


class WeightsStore(Protocol):
    """Directories of files, by their location below the store."""

    def save(self, location: str, files: Files) -> None:
        """Write files that are all there or none, also after a power failure. Raises OSError if it cannot."""
        ...

    def load(self, location: str, name: str) -> bytes:
        """Return a file's content. Raises FileNotFoundError if it is not there."""
        ...

    def names(self, location: str) -> list[str]:
        """Return the names of a directory's files."""
        ...

    def delete(self, location: str) -> None:
        """Delete a directory, if it is there."""
        ...


class LocalStore:
    """A directory on this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def save(self, location: str, files: Files) -> None:
        with new_directory(self._root / location) as scratch:
            for name, content in files.items():
                write_atomic(scratch / name, content)

    def load(self, location: str, name: str) -> bytes:
        return read_file(self._root / location / name)

    def names(self, location: str) -> list[str]:
        return sorted(file.name for file in (self._root / location).iterdir())

    def delete(self, location: str) -> None:
        directory = self._root / location
        for scratch in directory.parent.glob(f".{directory.name[:100]}-*"):  # of a save that was killed
            shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)


class RemoteStore:
    """A place that fsspec reaches. A directory counts as written once its last file is."""

    def __init__(self, url: str) -> None:
        """Raises ValueError if fsspec does not know the URL, or lacks a package for it."""
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            raise ValueError(f"serve.weights {url!r} cannot be opened: {single_line(error, 200)}") from error

    def save(self, location: str, files: Files) -> None:
        directory = f"{self._root}/{location}"
        self._files.makedirs(directory, exist_ok=True)
        for name, content in files.items():
            self._files.pipe_file(f"{directory}/{name}", content)

    def load(self, location: str, name: str) -> bytes:
        return bytes(self._files.cat_file(f"{self._root}/{location}/{name}"))

    def names(self, location: str) -> list[str]:
        return sorted(Path(str(path)).name for path in self._files.ls(f"{self._root}/{location}", detail=False))

    def delete(self, location: str) -> None:
        if self._files.exists(f"{self._root}/{location}"):
            self._files.rm(f"{self._root}/{location}", recursive=True)


def open_store(place: str) -> WeightsStore:
    """Return the store at a directory or a URL. Raises ValueError if it cannot be opened."""
    if "://" in place:
        return RemoteStore(place)
    try:
        return LocalStore(Path(place))
    except OSError as error:
        raise ValueError(f"{place} cannot be written: {error.strerror}; choose another directory") from error


def digest(files: Files) -> str:
    """Return the hash of files, names and all."""
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return whole.hexdigest()
