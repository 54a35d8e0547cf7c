"""The tests of a problem, as public data sets have them in a column: asserts, calls, or inputs with their outputs."""

import ast
import builtins
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from rewards.code.names import names_of_program
from rewards.types import Problem


@dataclass(frozen=True, slots=True)
class Exchange:
    """Input of a program, and the output that it must write."""

    given: str
    expected: str


@dataclass(frozen=True, slots=True)
class Cases:
    """Tests of one kind: exchanges, or code that raises if a test fails."""

    exchanges: tuple[Exchange, ...] = ()
    tests: tuple[str, ...] = ()
    setup: str = ""
    """Code before the tests."""
    target: str = ""
    """The function that the tests know as ``_target``."""

    def __len__(self) -> int:
        return len(self.exchanges) + len(self.tests)


def read_cases(problem: Problem, column: str) -> Cases:
    """Return the tests in a column of MBPP, HumanEval, APPS or LiveCodeBench.

    Raises:
        ValueError: there is no such column, or it is in none of their layouts.
    """
    if column not in problem.metadata:
        raise ValueError(f"there is no column {column!r} with tests; the data has: {', '.join(problem.metadata)}")
    cases = _cases(problem, _parsed(problem.metadata[column]))
    if cases is None or not len(cases):
        raise ValueError(
            f"problem {problem.id}: column {column!r} holds no tests: it must be a list of asserts, a list of "
            "{input, output}, {inputs, outputs} with or without fn_name, or code"
        )
    for code in (cases.setup, *cases.tests):
        _check_code(problem, code)
    _check_names(problem, cases)
    return cases


def _cases(problem: Problem, value: Any) -> Cases | None:
    if isinstance(value, str):
        entry = problem.metadata.get("entry_point")
        return _human_eval(problem, value, entry if isinstance(entry, str) and entry.isidentifier() else "")
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        return _apps(table) if {"inputs", "outputs"} <= set(table) else None
    if not isinstance(value, Sequence):
        return None
    entries = cast("Sequence[Any]", value)
    if all(isinstance(e, str) for e in entries):
        return Cases(tests=tuple(entries), setup=_setup(problem))
    if all(isinstance(e, Mapping) and {"input", "output"} <= set(cast("Mapping[str, Any]", e)) for e in entries):
        return _live_code_bench(problem, entries)
    return None


def _human_eval(problem: Problem, code: str, entry: str) -> Cases:
    """An entry point with the name of something of Python's is passed by another, which is the program's alone."""
    shadows = hasattr(builtins, entry)
    called = f"\ncheck({'_target' if shadows else entry})" if entry else ""
    return Cases(tests=(code + called,), setup=_setup(problem), target=entry if shadows else "")


def _apps(table: Mapping[str, Any]) -> Cases:
    """``fn_name`` makes calls of them, whose outputs may be in a list of one."""
    pairs = list(zip(table["inputs"], table["outputs"], strict=True))
    if not table.get("fn_name"):
        return Cases(tuple(Exchange(_lines(given), _lines(expected)) for given, expected in pairs))
    return _calls(str(table["fn_name"]), ((given, _with_only_item(expected)) for given, expected in pairs))


def _live_code_bench(problem: Problem, entries: Sequence[Mapping[str, Any]]) -> Cases:
    """Inputs of calls hold an argument a line. The function is named in the column ``metadata``."""
    name = _function_name(problem)
    if not name or not all(e.get("testtype", "functional") == "functional" for e in entries):
        return Cases(tuple(Exchange(_lines(e["input"]), _lines(e["output"])) for e in entries))
    calls = [([_json(line) for line in e["input"].splitlines()], [_json(e["output"])]) for e in entries]
    return _calls(name, calls)


def _calls(name: str, calls: Iterable[tuple[Sequence[Any], Sequence[Any]]]) -> Cases:
    return Cases(tests=tuple(f"assert _fits(_target(*{list(g)!r}), {list(e)!r})" for g, e in calls), target=name)


def _with_only_item(expected: Any) -> list[Any]:
    return (
        [expected, expected[0]] if isinstance(expected, list) and len(cast("list[Any]", expected)) == 1 else [expected]
    )


def _function_name(problem: Problem) -> str:
    described = _parsed(problem.metadata.get("metadata"))
    columns: dict[str, Any] = {**problem.metadata, **(described if isinstance(described, dict) else {})}
    return next((str(columns[n]) for n in ("func_name", "fn_name") if columns.get(n)), "")


def _setup(problem: Problem) -> str:
    """Return MBPP's code before the tests."""
    imports = problem.metadata.get("test_imports") or ()
    return "\n".join([*map(str, imports), str(problem.metadata.get("test_setup_code") or "")])


def _lines(value: Any) -> str:
    return "\n".join(map(str, cast("list[Any]", value))) if isinstance(value, list) else str(value)


def _parsed(value: Any) -> Any:
    return _json(value) if isinstance(value, str) and value.lstrip()[:1] in ("[", "{") else value


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _check_code(problem: Problem, code: str) -> None:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"problem {problem.id}: a test is no Python: {error}: {code[:200]!r}") from error


def _check_names(problem: Problem, cases: Cases) -> None:
    if not cases.tests:
        return
    try:
        names_of_program([cases.setup, *cases.tests])
    except ValueError as error:
        raise ValueError(f"problem {problem.id}: {error}") from error
