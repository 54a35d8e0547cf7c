"""JSON lines, as a run keeps its metrics and samples: what cannot be a row of theirs is passed over, and said so.

A line that a kill has cut off is the file's last, and no loss: its step is done again. Any other line that is no row
was put there by somebody else, or by a disk that failed.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard, cast

from lora.files.atomic_write import with_filename
from lora.files.ordinary_file import open_file

log = logging.getLogger(__name__)

MOST_LINE_BYTES = 16 * 2**20
MOST_INTEGER = 2**63
"""Beyond it a number is of no use to whoever draws it, and text of thousands of digits no number at all."""


def read_metrics(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file of metrics: a whole-numbered `step`, and numbers by name. None if there is no file."""
    return (value for _, value in _values(file) if is_metrics(value))


def read_samples(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file of samples: objects with a whole-numbered `step`. None if there is no file."""
    return (value for _, value in _values(file) if is_row(value))


def warn_of_others(file: Path, is_right: Callable[[object], bool]) -> None:
    """Say in the log which lines are passed over, if any are."""
    others = [number for number, value in _values(file) if not is_right(value)]
    if len(others) == 1:
        log.warning("%s: line %d is no row of a step, and is left out", file, others[0])
    elif others:
        log.warning(
            "%s: %d lines are no rows of a step, the first is line %d; they are left out", file, len(others), others[0]
        )


def append_objects(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append one line for each row."""
    with with_filename(file), open_file(file, "ab") as sink:
        sink.writelines((json.dumps(row) + "\n").encode() for row in rows)


def is_row(value: object) -> TypeGuard[dict[str, Any]]:
    """Return True for an object that belongs to a step."""
    if not isinstance(value, dict):
        return False
    step = cast("dict[str, Any]", value).get("step")
    return isinstance(step, int) and not isinstance(step, bool) and 0 <= step < MOST_INTEGER


def is_metrics(value: object) -> TypeGuard[dict[str, Any]]:
    """Return True for a row that holds numbers alone."""
    return is_row(value) and all(_is_number(number) for number in value.values())


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return True
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < MOST_INTEGER


def _values(file: Path) -> Iterator[tuple[int, object]]:
    """Yield each line's number and value, None for no JSON; leave out blank lines, and a last one that was cut off."""
    try:
        opened = open_file(file)
    except FileNotFoundError:
        return
    with with_filename(file), opened as lines:
        for number, line in _lines(lines):
            value = parse_line(line)
            if value is not None or line.endswith(b"\n"):
                yield number, value


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank and their numbers; of one that is far too long, its beginning."""
    number = 0
    while line := file.readline(MOST_LINE_BYTES):
        number += 1
        rest = line
        while len(rest) == MOST_LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MOST_LINE_BYTES)
        if line.strip():
            yield number, line


def parse_line(line: bytes) -> object:
    """Return the line's value; None where it is not UTF-8, was cut off, or has thousands of brackets or digits."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
