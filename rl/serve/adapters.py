"""Adapters that are sampled from: the newest in memory, all of them in files, so that there may be any number."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lora.atomic_write import write_atomic
from lora.types import Adapter


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
    """Adapters of unnamed saves, which end with their session or with the server."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.iterdir():  # an earlier server's
            left.unlink()

    def add(self, name: str, owner: str, adapter: Adapter) -> AdapterSource:
        """Keep a run's adapter under a name of its own."""
        file = self._directory / f"{name}.safetensors"
        write_atomic(file, adapter.payload)
        return AdapterSource(name, adapter.version, file.read_bytes, owner)

    def drop(self, name: str) -> None:
        """Delete an adapter."""
        (self._directory / f"{name}.safetensors").unlink(missing_ok=True)
