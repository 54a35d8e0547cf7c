"""GSM8K's layout: `train.jsonl` and `test.jsonl`, each answer a worked solution that ends in `#### 1,234`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rewards.types import Problem
from rl.config import Gsm8k
from rl.data.columns import text_after, text_column
from rl.data.files import require_directory
from rl.data.json_lines import read_problems
from rl.data.split import Split

MARKER = "####"


def load_gsm8k(config: Gsm8k, base: Path) -> Split:
    """Read its train and test files. Raises ValueError naming the file and line of the first unusable problem."""
    directory = require_directory(config.path, base, "data.path")
    for name in ("train.jsonl", "test.jsonl"):
        if not (directory / name).is_file():
            raise ValueError(f"data.path: {config.path!r} has no {name}, which GSM8K's layout consists of")
    return Split(
        train=tuple(read_problems(directory / "train.jsonl", "gsm8k/train", gsm8k_problem)),
        held_out=tuple(read_problems(directory / "test.jsonl", "gsm8k/test", gsm8k_problem)),
    )


def gsm8k_problem(row: Mapping[str, Any], id: str, where: str) -> Problem:
    """Return a row's problem. Raises ValueError, naming `where` the row is, if it is unusable."""
    worked = text_column(row, "answer", where)
    answer = text_after(worked, MARKER, f"{where}: the answer column").replace(",", "")
    others = {name: value for name, value in row.items() if name not in ("question", "answer")}
    solution = worked.rpartition(MARKER)[0].strip()
    return Problem(id, text_column(row, "question", where), answer, {"solution": solution, **others})
