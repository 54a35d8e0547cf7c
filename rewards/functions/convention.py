"""The conventions that reward functions are written in, recognised by the names of their parameters.

* ours: ``(problem, completion) -> float | Reward``, or ``(problems, completions)`` for a group at once;
* TRL's: ``(prompts, completions, **columns) -> list[float | None]``;
* verl's: ``(data_source, solution_str, ground_truth, extra_info) -> float | dict``, or its plural for a batch.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from types import CodeType
from typing import Any, cast

Parameters = Mapping[str, inspect.Parameter]

VERL_SINGLE = ("data_source", "solution_str", "ground_truth", "extra_info")
VERL_BATCH = ("data_sources", "solution_strs", "ground_truths", "extra_infos")
EXTRAS = ("finish_reason", "finish_reasons", "rules")
"""Parameters of any convention that are filled if a function has them: why a completion ended (or each of a group), and
the choices of ``[reward]``."""


class Convention(StrEnum):
    OURS = "(problem, completion)"
    OURS_BATCH = "(problems, completions)"
    TRL = "(prompts, completions, **columns)"
    VERL = "(data_source, solution_str, ground_truth, extra_info)"
    VERL_BATCH = "(data_sources, solution_strs, ground_truths, extra_infos)"


_MARKS: tuple[tuple[frozenset[str], Convention, frozenset[str]], ...] = (
    (frozenset({"problem", "completion"}), Convention.OURS, frozenset({"problem", "completion"})),
    (frozenset({"problems", "completions"}), Convention.OURS_BATCH, frozenset({"problems", "completions"})),
    (frozenset({"solution_str"}), Convention.VERL, frozenset(VERL_SINGLE)),
    (frozenset({"solution_strs"}), Convention.VERL_BATCH, frozenset(VERL_BATCH)),
)
"""The parameters that give a convention away, and all that it fills. TRL's depend on the data's columns."""


def parameters_of(name: str, function: Callable[..., Any]) -> Parameters:
    """Return the parameters of a function. Raises ValueError for a callable without a signature."""
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} has no signature to recognise it by; wrap it in a def") from error


def recognize(name: str, parameters: Parameters) -> Convention:
    """Return the convention of a function. Raises ValueError if it is none, or needs what nothing supplies."""
    names = set(parameters)
    for marks, convention, filled in _MARKS:
        if marks <= names:
            _check_filled(name, parameters, filled)
            return convention
    if "completions" in names:
        return Convention.TRL
    if "completion_ids" in names:
        raise ValueError(f"{name} takes token ids, which no grading process has; let it take completions, their text")
    listed = "; ".join(Convention)
    raise ValueError(f"{name} takes ({', '.join(parameters)}); name its parameters as one of {listed}")


def _check_filled(name: str, parameters: Parameters, filled: frozenset[str]) -> None:
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    missing = [
        n
        for n, p in parameters.items()
        if n not in filled and n not in EXTRAS and p.default is p.empty and p.kind is not p.VAR_POSITIONAL
    ]
    if missing:
        raise ValueError(f"{name} needs {', '.join(missing)}, which nothing supplies; give it a default value")


def wants_messages(function: Callable[..., Any], parameters: Parameters) -> bool:
    """Return True if completions are to be messages: by their annotation, or else if the code reads a "content".

    Most of TRL's users write ``completion[0]["content"]`` and annotate nothing.
    """
    if "completions" not in parameters:
        return False
    annotation = str(parameters["completions"].annotation).lower()
    if "dict" in annotation or "str" in annotation:
        return "dict" in annotation
    return any("content" in constants for constants in _constants(function, set()))


def _constants(function: Any, seen: set[CodeType]) -> Iterator[tuple[Any, ...]]:
    """The constants of a function, of those within it, and of the ones beside it that it calls."""
    while isinstance(function, functools.partial):
        function = cast(Any, function).func
    function = inspect.unwrap(function)
    method = function if inspect.isroutine(function) else getattr(function, "__call__", None)  # noqa: B004
    namespace: dict[str, Any] = getattr(method, "__globals__", {})
    codes = [getattr(method, "__code__", None)]
    for code in codes:
        if not isinstance(code, CodeType) or code in seen:
            continue
        seen.add(code)
        yield code.co_consts
        codes += [c for c in code.co_consts if isinstance(c, CodeType)]
        for name in code.co_names:
            called = namespace.get(name)
            if inspect.isfunction(called) and called.__module__ == namespace.get("__name__"):
                yield from _constants(called, seen)
