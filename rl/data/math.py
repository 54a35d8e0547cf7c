"""MATH's layout: JSON lines with `problem` and `answer`, or with the answer in the last box of `solution`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rewards.types import Problem
from rl.config import Math
from rl.data.columns import Columns, column, text_column
from rl.data.files import require_file
from rl.data.json_lines import read_problems
from rl.data.split import Split, set_apart

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")
_WORD_END = re.compile(r"[\s$]")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def load_math(config: Math, seed: int, base: Path) -> Split:
    """Problems in LaTeX. Raises ValueError naming the file and line of the first unusable one."""
    train = read_problems(require_file(config.train, base, "data.train"), "math/train", math_problem)
    if config.held_out is None:
        return set_apart(train, config.num_held_out, seed, config.train)
    held_out = require_file(config.held_out, base, "data.held_out")
    return Split(tuple(train), tuple(read_problems(held_out, "math/held_out", math_problem)))


def last_box(text: str) -> str | None:
    r"""Return the content of the last `\boxed{...}`, `\fbox` or `\boxed 5`; None without one, or if it never closes."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    rest = text[boxes[-1].end() :]
    if not rest.startswith("{"):
        return _WORD_END.split(rest, maxsplit=1)[0].rstrip(".,") or None
    depth = 0
    for brace in _BRACE.finditer(rest):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0 and brace[0] == "}":
            return rest[1 : brace.start()].strip()
    return None


def math_problem(row: Mapping[str, Any], id: str, where: str) -> Problem:
    """Return a row's problem. Raises ValueError, naming `where` the row is, if it is unusable."""
    if "answer" in row:
        return Columns("problem", "answer").problem(row, id=id, where=where)
    question = text_column(row, "problem", where)
    if "solution" not in row:
        column(row, "answer", where)
    answer = last_box(text_column(row, "solution", where))
    if not answer:
        raise ValueError(rf"{where}: the solution has no \boxed{{...}} that holds the answer")
    return Problem(id, question, answer, {name: value for name, value in row.items() if name != "problem"})
