"""The arguments that a reward function gets, by its convention: problems and texts as ours, TRL's or verl's."""

import inspect
from collections.abc import Sequence
from typing import Any

from rewards.functions.convention import EXTRAS, VERL_BATCH, VERL_SINGLE, Convention
from rewards.functions.term import Term
from rewards.types import Problem

ANSWER_NAMES = (
    "answer", "answers", "solution", "solutions", "ground_truth", "ground_truths", "target", "targets", "label",
    "labels", "expected", "expected_answer", "gold", "gold_answer", "reference", "reference_answer", "correct_answer",
)  # fmt: skip
"""Names that reward files give to the reference answer, used if the data set has no column of that name."""


def single_arguments(term: Term, problem: Problem, text: str, finish_reason: str) -> dict[str, Any]:
    """Return the arguments of a call that grades one completion."""
    if term.convention is Convention.VERL:
        arguments = _accepted(term, _verl(problem, text))
    else:
        arguments = {"problem": problem, "completion": text}
    return {**arguments, **_extras(term, finish_reason)}


def batch_arguments(
    term: Term, problem: Problem, texts: Sequence[str], finish_reasons: Sequence[str]
) -> dict[str, Any]:
    """Return the arguments of a call that grades a group. Raises ValueError if the data lacks a column it needs."""
    match term.convention:
        case Convention.TRL:
            arguments = _trl(term, problem, texts)
        case Convention.VERL_BATCH:
            rows = [_verl(problem, text) for text in texts]
            names = zip(VERL_SINGLE, VERL_BATCH, strict=True)
            arguments = {plural: [row[singular] for row in rows] for singular, plural in names}
        case _:
            arguments = {"problems": [problem] * len(texts), "completions": list(texts)}
    return {**_accepted(term, arguments), **_extras(term, list(finish_reasons))}


def _extras(term: Term, finish_reason: str | list[str]) -> dict[str, Any]:
    values = {"finish_reason": finish_reason, "finish_reasons": finish_reason, "rules": term.rules}
    return {name: values[name] for name in term.extras}


def _verl(problem: Problem, text: str) -> dict[str, Any]:
    extra = problem.metadata.get("extra_info")
    return {
        "data_source": problem.metadata.get("data_source", problem.source),
        "solution_str": text,
        "ground_truth": problem.answer,
        "extra_info": {**problem.metadata, "question": problem.question, "id": problem.id} if extra is None else extra,
    }


def _trl(term: Term, problem: Problem, texts: Sequence[str]) -> dict[str, Any]:
    prompt: Any = [{"role": "user", "content": problem.question}] if term.conversational else problem.question
    replies: list[Any] = [[{"role": "assistant", "content": t}] for t in texts] if term.conversational else list(texts)
    columns = {name: [value] * len(texts) for name, value in _columns(term, problem).items()}
    return {**columns, "prompts": [prompt] * len(texts), "completions": replies}


def _columns(term: Term, problem: Problem) -> dict[str, Any]:
    """The data set's columns, and the reference answer by each other name that the function may know it by."""
    columns = {"id": problem.id, "question": problem.question, "answer": problem.answer, **problem.metadata}
    for name, parameter in inspect.signature(term.function).parameters.items():
        if name in columns or name in ("prompts", "completions", *EXTRAS):
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            columns = {**dict.fromkeys(ANSWER_NAMES, problem.answer), **columns}
        elif name in ANSWER_NAMES:
            columns[name] = problem.answer
        elif parameter.default is parameter.empty:
            raise ValueError(f"{term.name} needs the column {name!r}; the data has: {', '.join(sorted(columns))}")
    return columns


def _accepted(term: Term, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that the function has parameters for."""
    parameters = inspect.signature(term.function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return arguments
    return {k: v for k, v in arguments.items() if k in parameters}
