"""Saved weights: their files, and the rows that say of them. A row is there only while its files are."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lora.peft.files import CONFIG, WEIGHTS, peft_files
from lora.types import Adapter
from rl.serve.storage.database import Checkpoint
from rl.serve.storage.registry import Registry, expiry, now, taken
from rl.serve.storage.weights import Files, WeightsStore, digest
from rl.wire.tinker_path import TinkerPath

STATE = "state.safetensors"
"""A policy's weights and Adam's moments in float32, beside the adapter as PEFT has it."""

LEFTOVER_S = 3600.0
"""Longer than any save takes, also another server's with the same database."""


@dataclass(frozen=True, slots=True)
class SaveOptions:
    """Options of a save."""

    ttl_seconds: int | None = None
    overwrite: bool = False
    user_metadata: dict[str, Any] | None = None


class Checkpoints:
    """Saved weights of all users. Every call blocks while files are read or written."""

    def __init__(self, registry: Registry, store: WeightsStore) -> None:
        self._registry = registry
        self._store = store

    def save(
        self, user: str, path: TinkerPath, adapter: Adapter, state: bytes | None, options: SaveOptions
    ) -> Checkpoint:
        """Write weights; they are durable when this returns.

        Raises:
            ValueError: the name is taken, and is not to be overwritten.
        """
        files = peft_files(adapter) | ({} if state is None else {STATE: state})
        row = self._row(user, path, files, options)
        if not options.overwrite and self._registry.checkpoint(user, path) is not None:
            raise taken(path)
        self._registry.add_leftover(row.location)  # until its row is there, also where the server is killed
        self._store.save(row.location, files)
        try:
            replaced = self._registry.add_checkpoint(row, overwrite=options.overwrite)
        except ValueError:  # after anything else the row may be there: `delete_leftovers` knows
            self._delete(row.location)
            raise
        if replaced is not None:
            self._delete(replaced.location)
        return row

    def find(self, user: str, path: TinkerPath) -> Checkpoint:
        """Return a user's checkpoint. Raises ValueError if there is none, or its time is over."""
        row = self._registry.checkpoint(user, path)
        if row is None:
            raise ValueError(f"there are no weights {path}, or their time is over (ttl_seconds)")
        return row

    def state(self, row: Checkpoint) -> bytes:
        """Return a training checkpoint's state. Raises ValueError for one of a sampler's, which has none."""
        if row.kind != "weights":
            raise ValueError(f"{path_of(row)} was saved for a sampler: load weights that save_state saved")
        try:
            return self._store.load(row.location, STATE)
        except FileNotFoundError:
            raise ValueError(f"{path_of(row)} was deleted or written anew while it was read: load it again") from None

    def payload(self, row: Checkpoint) -> bytes:
        """Return the adapter of a checkpoint as a file."""
        return self._store.load(row.location, WEIGHTS)

    def file(self, row: Checkpoint, name: str) -> bytes:
        """Return a PEFT file of a checkpoint. Raises FileNotFoundError if it has none of that name."""
        if name not in (WEIGHTS, CONFIG):
            raise FileNotFoundError(name)
        return self._store.load(row.location, name)

    def delete(self, user: str, path: TinkerPath) -> bool:
        """Delete a user's checkpoint; return False if there is none."""
        row = self._registry.remove_checkpoint(user, path)
        if row is not None:
            self._delete(row.location)
        return row is not None

    def delete_expired(self) -> int:
        """Delete those whose time is over; return how many they were."""
        rows = self._registry.remove_expired()
        for row in rows:
            self._delete(row.location)
        return len(rows)

    def delete_leftovers(self, age_seconds: float = LEFTOVER_S) -> int:
        """Delete files of saves and deletions that came to no end so long ago; return how many there were."""
        locations = self._registry.leftovers(age_seconds)
        for location in locations:
            self._delete(location)
        return len(locations)

    def _delete(self, location: str) -> None:
        self._store.delete(location)
        self._registry.remove_leftover(location)

    def _row(self, user: str, path: TinkerPath, files: Files, options: SaveOptions) -> Checkpoint:
        created: datetime = now()
        return Checkpoint(
            run_id=path.run,
            user=user,
            kind=path.kind,
            name=path.name,
            created=created,
            expires=expiry(options.ttl_seconds),
            public=False,
            size_bytes=sum(map(len, files.values())),
            sha256=digest(files),
            # A name of its own for every save: one that is overwritten stays whole until the new one is there.
            location=f"{path.run.replace(':', '-')}/{path.kind}/{path.name[:100]}-{secrets.token_hex(8)}",
            user_metadata=options.user_metadata,
        )


def path_of(row: Checkpoint) -> TinkerPath:
    """Return a checkpoint's path."""
    kinds: Any = row.kind
    return TinkerPath(row.run_id, kinds, row.name)
