"""JSON lines, as a run keeps its metrics and samples."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lora.durable import naming


def read_objects(file: Path) -> Iterator[dict[str, Any]]:
    """The file's objects; none if there is no file, and a line that was cut off by a kill is no object."""
    if not file.exists():
        return
    with file.open() as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


def append_objects(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One line more for each."""
    with naming(file), file.open("a") as sink:
        sink.writelines(json.dumps(row) + "\n" for row in rows)
