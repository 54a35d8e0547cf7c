"""Reward functions of the user's own: found by name, recognised by their parameters, carried to the graders by value.

Three conventions are accepted, so that an existing reward file works unchanged (``docs/rewards.md`` has an example of
each):

* ours: ``(problem, completion) -> float | Reward``, or ``(problems, completions)`` for a group at once;
* TRL's: ``(prompts, completions, **columns) -> list[float | None]``;
* verl's: ``(data_source, solution_str, ground_truth, extra_info) -> float | dict``, or its plural for a batch.

Each may be ``async``. What a function does wrong (an exception, NaN, a list of the wrong length) is
`RewardFunctionError`.
"""

import asyncio
import functools
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import CodeType
from typing import Any, cast

import cloudpickle

from rewards.config import RewardConfig, RewardTerm
from rewards.find import BUILT_IN, find_function
from rewards.rules import STRICT, Rules
from rewards.types import Outcome, Problem, Reward

_VERL_ONE = ("data_source", "solution_str", "ground_truth", "extra_info")
_VERL_MANY = ("data_sources", "solution_strs", "ground_truths", "extra_infos")
_ANSWER_NAMES = (
    "answer", "answers", "solution", "solutions", "ground_truth", "ground_truths", "target", "targets", "label",
    "labels", "expected", "expected_answer", "gold", "gold_answer", "reference", "reference_answer", "correct_answer",
)  # fmt: skip
"""What reward files call the reference answer, in case the data set has no column of that name."""

_EXTRAS = ("finish_reason", "finish_reasons", "rules")
"""What a function of any convention gets if it has a parameter of the name: why a completion ended (or for each of a
group), and the choices of ``[reward]``."""

Score = float | Reward | None
"""What a function says of one completion; None when it does not apply (TRL)."""


class RewardFunctionError(ValueError):
    """The user's function failed. ``kind`` names the failure and its line, so that each kind is logged once."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class Convention(StrEnum):
    OURS = "(problem, completion)"
    OURS_BATCH = "(problems, completions)"
    TRL = "(prompts, completions, **columns)"
    VERL = "(data_source, solution_str, ground_truth, extra_info)"
    VERL_BATCH = "(data_sources, solution_strs, ground_truths, extra_infos)"


@dataclass(frozen=True, slots=True)
class Term:
    """A loaded function and its weight. It travels by value: see `pack`."""

    name: str
    weight: float
    function: Callable[..., Any]
    convention: Convention
    is_async: bool
    conversational: bool = False
    """TRL only: completions are ``[{"role": "assistant", "content": text}]`` instead of text."""
    rules: Rules = STRICT
    """The choices of ``[reward]``, for a function that takes ``rules``."""
    extras: frozenset[str] = frozenset()
    """Which of `_EXTRAS` the function takes."""
    modules: tuple[str, ...] = field(default=(), compare=False)
    """Modules of the user's that no worker can be expected to have."""

    @property
    def is_built_in(self) -> bool:
        return BUILT_IN.get(self.name) is self.function

    @property
    def is_grouped(self) -> bool:
        """Whether one call takes a whole group: batch functions, and async ones, whose waits overlap."""
        return self.is_async or self.convention not in (Convention.OURS, Convention.VERL)


def load_terms(config: RewardConfig) -> tuple[Term, ...]:
    """The functions a configuration names. Raises ValueError of one line for one that cannot be loaded."""
    terms = config.terms or (RewardTerm(function=config.function),)
    return tuple(
        load_term(t.function, t.weight, conversational=config.conversational, rules=config.rules) for t in terms
    )


def load_term(name: str, weight: float = 1.0, *, conversational: bool | None = None, rules: Rules = STRICT) -> Term:
    """Loads ``file.py:name``, ``package.module:name`` or a built-in."""
    function, modules = find_function(name)
    parameters = _parameters(name, function)
    convention = _convention(name, parameters)
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
    chat = _wants_chat(function, parameters) if conversational is None else conversational
    extras = frozenset(n for n in _EXTRAS if n in parameters)
    chat = chat and convention is Convention.TRL
    return Term(name, weight, function, convention, is_async, chat, rules, extras, modules)


def pack(terms: Sequence[Term]) -> bytes:
    """The terms with the user's own modules by value, for a process on any machine.

    Raises ValueError if they cannot go.
    """
    modules = [sys.modules[m] for t in terms for m in t.modules if m in sys.modules]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(tuple(terms))
    except Exception as error:
        names = ", ".join(t.name for t in terms)
        raise ValueError(
            f"cannot send {names} to the graders: {error}; keep open files, locks and connections out of module globals"
        ) from error
    finally:
        for module in {id(m): m for m in modules}.values():
            cloudpickle.unregister_pickle_by_value(module)


def score(
    term: Term, problem: Problem, texts: Sequence[str], finish_reasons: Sequence[str] | None = None
) -> list[Score]:
    """What a function says of each completion of one problem. Without finish reasons all have ended by themselves.

    Raises `RewardFunctionError` with the function's traceback.
    """
    try:
        returned = _call(term, problem, list(texts), list(finish_reasons or ["stop"] * len(texts)))
    except (MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a SystemExit in a reward function is a failure of it, too
        raise RewardFunctionError(_own_traceback(error), _kind(term, error)) from None
    return _checked(term, returned, len(texts))


# Recognising a convention


def _parameters(name: str, function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} has no signature to recognise it by; wrap it in a def") from error


def _convention(name: str, parameters: Mapping[str, inspect.Parameter]) -> Convention:
    names = set(parameters)
    rest = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    if {"problem", "completion"} <= names:
        found, known = Convention.OURS, {"problem", "completion"}
    elif {"problems", "completions"} <= names:
        found, known = Convention.OURS_BATCH, {"problems", "completions"}
    elif "solution_str" in names:
        found, known = Convention.VERL, set(_VERL_ONE)
    elif "solution_strs" in names:
        found, known = Convention.VERL_BATCH, set(_VERL_MANY)
    elif "completions" in names:
        return Convention.TRL  # its other parameters are columns, known when there is a problem
    elif "completion_ids" in names:
        raise ValueError(f"{name} takes token ids, which no grading process has; let it take completions, their text")
    else:
        listed = "; ".join(Convention)
        raise ValueError(f"{name} takes ({', '.join(parameters)}); name its parameters as one of {listed}")
    needed = [
        n
        for n, p in parameters.items()
        if n not in known
        and n not in _EXTRAS
        and p.default is p.empty
        and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    if needed and not rest:
        raise ValueError(f"{name} needs {', '.join(needed)}, which nothing supplies; give it a default value")
    return found


def _wants_chat(function: Callable[..., Any], parameters: Mapping[str, inspect.Parameter]) -> bool:
    """Whether completions are to be messages: their annotation says so, or the code takes "content" out of something.

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


# Calling


def _call(term: Term, problem: Problem, texts: list[str], reasons: list[str]) -> Any:
    pairs = list(zip(texts, reasons, strict=True))
    match term.convention:
        case Convention.OURS:
            return _each(term, [{"problem": problem, "completion": t, **_extras(term, r)} for t, r in pairs])
        case Convention.VERL:
            return _each(term, [{**_taken(term, _verl(problem, t)), **_extras(term, r)} for t, r in pairs])
        case Convention.OURS_BATCH:
            arguments: dict[str, Any] = {"problems": [problem] * len(texts), "completions": texts}
        case Convention.VERL_BATCH:
            rows = [_verl(problem, t) for t in texts]
            arguments = {many: [r[one] for r in rows] for one, many in zip(_VERL_ONE, _VERL_MANY, strict=True)}
        case Convention.TRL:
            arguments = _trl(term, problem, texts)
    returned = term.function(**_taken(term, arguments), **_extras(term, reasons))
    return asyncio.run(_awaited(returned)) if term.is_async else returned


def _extras(term: Term, reason: str | list[str]) -> dict[str, Any]:
    """The extras that a function takes, for one completion or for all of a group."""
    if not term.extras:
        return {}
    given = {"finish_reason": reason, "finish_reasons": reason, "rules": term.rules}
    return {name: given[name] for name in term.extras}


def _each(term: Term, calls: list[dict[str, Any]]) -> list[Any]:
    if not term.is_async:
        return [term.function(**c) for c in calls]

    async def all_of_them() -> list[Any]:
        return list(await asyncio.gather(*[term.function(**c) for c in calls]))

    return asyncio.run(all_of_them())


async def _awaited(returned: Any) -> Any:
    return await returned


def _verl(problem: Problem, text: str) -> dict[str, Any]:
    extra = problem.metadata.get("extra_info")
    return {
        "data_source": problem.metadata.get("data_source", ""),
        "solution_str": text,
        "ground_truth": problem.answer,
        "extra_info": extra
        if extra is not None
        else {**problem.metadata, "question": problem.question, "id": problem.id},
    }


def _trl(term: Term, problem: Problem, texts: list[str]) -> dict[str, Any]:
    count = len(texts)
    prompt: Any = [{"role": "user", "content": problem.question}] if term.conversational else problem.question
    replies: list[Any] = [[{"role": "assistant", "content": t}] for t in texts] if term.conversational else texts
    columns = {"id": problem.id, "question": problem.question, "answer": problem.answer, **problem.metadata}
    for name, parameter in inspect.signature(term.function).parameters.items():
        if name in columns or name in ("prompts", "completions", *_EXTRAS):
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            columns = {**dict.fromkeys(_ANSWER_NAMES, problem.answer), **columns}
        elif name in _ANSWER_NAMES:
            columns[name] = problem.answer
        elif parameter.default is parameter.empty:
            raise ValueError(f"{term.name} needs the column {name!r}; the data has: {', '.join(sorted(columns))}")
    return {**{k: [v] * count for k, v in columns.items()}, "prompts": [prompt] * count, "completions": replies}


def _taken(term: Term, arguments: dict[str, Any]) -> dict[str, Any]:
    """Only the arguments that the function takes."""
    parameters = inspect.signature(term.function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return arguments
    return {k: v for k, v in arguments.items() if k in parameters}


# Judging what came back


def _checked(term: Term, returned: Any, count: int) -> list[Score]:
    values: Any = returned.tolist() if hasattr(returned, "tolist") else returned
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise _wrong(term, f"returned {type(returned).__name__}, not a list of {count} rewards", "type")
    listed = cast(Sequence[Any], values)
    if len(listed) != count:
        raise _wrong(term, f"returned {len(listed)} rewards for {count} completions", "length")
    if term.convention is Convention.VERL:  # a score, and what else is to be known of it
        listed = [cast(Any, v)[0] if isinstance(v, tuple) and v else v for v in listed]
    return [_one(term, v) for v in listed]


def _one(term: Term, value: Any) -> Score:
    if value is None or isinstance(value, Reward):
        return cast(Score, value)
    if isinstance(value, Mapping):
        entries = cast(Mapping[str, Any], value)
        if "score" not in entries:
            raise _wrong(term, "returned a dict without 'score'", "dict")
        return _one(term, entries["score"])
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise _wrong(term, f"returned {type(value).__name__}, not a number", "type") from None
    if not math.isfinite(number):
        raise _wrong(term, f"returned {number}", "not finite")
    return number


def _wrong(term: Term, what: str, kind: str) -> RewardFunctionError:
    return RewardFunctionError(source(term, f"{term.name} {what}"), f"{term.name}: {kind}")


def source(term: Term, said: str = "") -> str:
    """The function's name, or what is said of it, with the line where it is defined."""
    code = getattr(term.function, "__code__", None)
    where = f" (defined at line {code.co_firstlineno} of {code.co_filename})" if code is not None else ""
    return f"{said or term.name}{where}"


def _own_traceback(error: BaseException) -> str:
    """The traceback from the function on: the grader's own frames are of no use to its author."""
    return "".join(traceback.format_exception(type(error), error, _own_frames(error))).rstrip()


def _own_frames(error: BaseException) -> Any:
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None and _is_grader(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def _is_grader(file: str) -> bool:
    return file == __file__ or "/asyncio/" in file


def _kind(term: Term, error: BaseException) -> str:
    frames = traceback.extract_tb(_own_frames(error))
    return f"{term.name}: {type(error).__name__} at line {frames[-1].lineno if frames else '?'}"


# One completion's reward from several terms


def combine(terms: Sequence[Term], scores: Sequence[Score]) -> Reward:
    """The weighted sum, without the terms that do not apply.

    Its outcome is that of the first term that states one (`math_answer` does); of plain numbers, above zero is correct.
    """
    applying = [(t, s) for t, s in zip(terms, scores, strict=True) if s is not None]
    if not applying:
        return Reward(0.0, Outcome.NOT_APPLICABLE)
    stated = [s for _, s in applying if isinstance(s, Reward)]
    failed = [s for s in stated if not s.is_valid]
    if failed:
        return Reward(0.0, failed[0].outcome)
    value = sum(t.weight * (s.value if isinstance(s, Reward) else s) for t, s in applying)
    if stated:
        return Reward(value, stated[0].outcome)
    return Reward(value, Outcome.CORRECT if value > 0 else Outcome.WRONG)
