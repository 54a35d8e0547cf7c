"""Other sets of problems that evaluations look at, each under a name of its own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rewards.types import Problem
from rl.config import EvaluateConfig, EvaluationSet, replaced
from rl.data.columns import Columns
from rl.data.files import locate, require_file
from rl.data.gsm8k import gsm8k_problem
from rl.data.json_lines import ToProblem, read_problems
from rl.data.math import math_problem
from rl.data.split import Split, check_disjoint

Sets = tuple[tuple[str, tuple[Problem, ...]], ...]


def load_evaluation_sets(config: EvaluateConfig, base: Path, train: tuple[Problem, ...]) -> Sets:
    """Load the sets of `config`, in their order. Relative paths start at `base`.

    Raises:
        ValueError: something is wrong with a file, or one of its problems is trained on.
    """
    sets = tuple((each.name, _load(each, base)) for each in config.sets)
    for name, problems in sets:
        check_disjoint(Split(train, problems), f"take them out of evaluate.sets {name!r} or out of the training set")
    return sets


def with_files(config: EvaluateConfig, change: Callable[[str], str]) -> EvaluateConfig:
    """Return the same settings with the path of every set's file changed."""
    return replaced(config, sets=tuple(replaced(each, file=change(each.file)) for each in config.sets))


def absolute_files(config: EvaluateConfig, base: Path) -> EvaluateConfig:
    """Return the same settings with absolute paths of the files that exist."""

    def absolute(path: str) -> str:
        place = locate(path, base)
        return path if place is None else str(place.resolve())

    return with_files(config, absolute)


def _load(config: EvaluationSet, base: Path) -> tuple[Problem, ...]:
    file = require_file(config.file, base, f"evaluate.sets {config.name!r}: file")
    return tuple(read_problems(file, config.name, _reader(config)))


def _reader(config: EvaluationSet) -> ToProblem:
    if config.layout == "gsm8k":
        return gsm8k_problem
    if config.layout == "math":
        return math_problem
    columns = Columns(config.question, config.answer, config.answer_after)

    def to_problem(row: Mapping[str, Any], id: str, where: str) -> Problem:
        return columns.problem(row, id=id, where=where)

    return to_problem
