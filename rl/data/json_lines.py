"""JSON lines: a file with one object a line."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lora.files.ordinary_file import open_file
from rewards.json_row import parse_row
from rewards.types import Problem
from rl.config import JsonLines
from rl.data.columns import Columns
from rl.data.files import require_file
from rl.data.split import Split, set_apart

ToProblem = Callable[[Mapping[str, Any], str, str], Problem]
"""Makes a problem of a row, an id, and a text that says where the row is."""


def load_json_lines(config: JsonLines, seed: int, base: Path) -> Split:
    """Problems from your own files. Raises ValueError naming the file and line of the first one that is unusable."""
    columns = Columns(config.question, config.answer, config.answer_after)

    def to_problem(row: Mapping[str, Any], id: str, where: str) -> Problem:
        return columns.problem(row, id=id, where=where)

    train = read_problems(require_file(config.train, base, "data.train"), "jsonl/train", to_problem)
    if config.held_out is None:
        return set_apart(train, config.num_held_out, seed, config.train)
    held_out = require_file(config.held_out, base, "data.held_out")
    return Split(tuple(train), tuple(read_problems(held_out, "jsonl/held_out", to_problem)))


def read_problems(path: Path, prefix: str, to_problem: ToProblem) -> list[Problem]:
    """The problems of a file, their ids `prefix` and the line's number. Raises ValueError when there are none."""
    problems = [to_problem(row, f"{prefix}/{line}", f"{path}:{line}") for line, row in read_rows(path)]
    if not problems:
        raise ValueError(f"{path} is empty: it needs one JSON object a line")
    return problems


def read_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each line's number and object; blank lines are passed over. Raises ValueError naming a malformed line."""
    try:
        with open_file(path) as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, _parse(line, f"{path}:{number}")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def _parse(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        return parse_row(line)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
