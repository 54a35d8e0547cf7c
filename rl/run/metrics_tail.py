"""Follows a run's file of metrics for a reader that may have to read a part of it again."""

import os
from pathlib import Path
from typing import Any, BinaryIO

from lora.files.atomic_write import with_filename
from lora.files.ordinary_file import open_file
from rl.run.jsonl import is_metrics, parse_line


class MetricsTail:
    """The rows of a file of metrics from the first that its reader does not have yet.

    A file that was replaced, because steps are done again, begins anew: its reader gets all of its rows once more.
    """

    def __init__(self, path: Path) -> None:
        self.first = 0
        """Number of the first row that was not taken yet, counted from 0 in the file."""
        self._path = path
        self._file: BinaryIO | None = None
        self._taken = self._read = 0
        """Bytes in front of row `first`, and of what `unread` has not returned."""

    def unread(self) -> list[dict[str, Any]]:
        """Return the rows from `first` on that are written to their end. Raises OSError if the file cannot be read."""
        with with_filename(self._path):
            file = self._current()
            if file is None:
                return []
            file.seek(self._taken)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read = self._taken + len(whole)
        return [row for line in whole.splitlines() if is_metrics(row := parse_line(line))]

    def take(self, count: int) -> None:
        """Go on behind the `count` rows that `unread` returned last."""
        self.first += count
        self._taken = self._read

    def rewind(self) -> None:
        """Go back to the first row."""
        self.first = self._taken = self._read = 0

    def close(self) -> None:
        """Close the file. One that is asked for more opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _current(self) -> BinaryIO | None:
        """Return the file, which is held open so that one that replaces it is another, whatever its length."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            status = None
        if self._file is not None and (status is None or not os.path.samestat(status, os.fstat(self._file.fileno()))):
            self.close()
            self.rewind()
        if self._file is None and status is not None:
            self._file = open_file(self._path)
        return self._file
