"""Adapters that are sampled from: the newest in memory, all of them in files, so that there may be any number."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lora.files.atomic_write import write_atomic
from lora.types import Adapter

SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class AdapterSource:
    """A way to an adapter, which may be large."""

    run: str
    """Its name for the engines, which keep what each name used last."""
    version: int
    read: Callable[[], bytes]
    """Returns its file. Raises OSError if it is gone."""
    owner: str = ""
    """The run that it is of, if it has no other name."""


class AdapterCache:
    """The adapters used last, in at most so many bytes; one at least. Threads may share it."""

    def __init__(self, most_bytes: int = 2**30) -> None:
        self._most_bytes = most_bytes
        self._adapters: OrderedDict[tuple[str, int], Adapter] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, source: AdapterSource) -> Adapter:
        """Return an adapter, read if it is not here."""
        key = source.run, source.version
        with self._lock:
            adapter = self._adapters.get(key)
        if adapter is None:  # nobody waits for another's file
            adapter = Adapter(source.run, source.version, source.read())
        with self._lock:
            self._adapters[key] = adapter
            self._adapters.move_to_end(key)
            while len(self._adapters) > 1 and self._bytes() > self._most_bytes:
                self._adapters.popitem(last=False)
        return adapter

    def _bytes(self) -> int:
        return sum(len(adapter.payload) for adapter in self._adapters.values())


class Snapshots:
    """Adapters of unnamed saves, which end with their session; each is a file that says whose it is in its name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, Path] = {}
        """By sampler."""
        directory.mkdir(parents=True, exist_ok=True)

    def add(self, sampler: str, run: str, adapter: Adapter) -> AdapterSource:
        """Keep a run's adapter for a sampler."""
        file = self._files[sampler] = (
            self._directory / f"{_in_file_name(sampler)}~{_in_file_name(run)}~{adapter.version}{SUFFIX}"
        )
        write_atomic(file, adapter.payload)
        return AdapterSource(_in_file_name(sampler), adapter.version, file.read_bytes, run)

    def left(self) -> dict[str, AdapterSource]:
        """Return those of an earlier start of the server, by their samplers; what is no whole snapshot is deleted."""
        sources: dict[str, AdapterSource] = {}
        for file in self._directory.iterdir():
            sampler, *more = file.name.removesuffix(SUFFIX).split("~")
            if file.suffix == SUFFIX and len(more) == 2 and more[1].isdigit() and not file.name.startswith("."):
                run, version = more
                source = AdapterSource(sampler, int(version), file.read_bytes, run.replace("_", ":"))
                sources[sampler.replace("_", ":")] = source
                self._files[sampler.replace("_", ":")] = file
            else:
                file.unlink()
        return sources

    def drop(self, sampler: str) -> None:
        """Delete a sampler's adapter."""
        if (file := self._files.pop(sampler, None)) is not None:
            file.unlink(missing_ok=True)


def _in_file_name(name: str) -> str:
    """Return a sampler's or a run's id, which has no underscore, without its colons."""
    return name.replace(":", "_")
