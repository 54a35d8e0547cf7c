"""The default reward: 1 when the completion's final answer equals the problem's, else 0, always with the reason."""

import re
from collections.abc import Iterable

from rewards.answer import parse_answer
from rewards.equivalence import equivalent
from rewards.expression import Unparsable
from rewards.extract import extract_answer, reference_answer
from rewards.measure import fits_question, without_asked
from rewards.normalize import MAX_ANSWER_CHARS, MAX_DIGITS, normalize
from rewards.types import Outcome, Problem, Reward
from rewards.worked import is_worked_out

_PERCENT = re.compile(
    r"(?:\b(?:what|which|find|determine|calculate|compute|express|give|write|how|nearest|answer|whole|by)\b[^.?!\d%]*?"
    r"|\b(?:as|in) an? ?)(?:per ?cent|%)",
    re.IGNORECASE,
)
"""A question that asks for a percentage, not one that only gives some."""


def math_answer(problem: Problem, completion: str) -> Reward:
    """Grades one completion. Never raises for its text; how long it may take is for whoever calls it (`GraderPool`)."""
    try:
        answer = extract_answer(completion)
        if answer is None or not answer.strip():
            return Reward(0.0, Outcome.NO_ANSWER)
        answer = without_asked(problem.question, answer)
        percent = _PERCENT.search(problem.question) is not None
        reference = reference_answer(problem.answer)
        right = (
            equivalent(reference, answer, percent=percent)
            and is_worked_out(problem.question, reference, answer)
            and fits_question(problem.question, reference, answer)
        )
    except (Unparsable, RecursionError):
        return Reward(0.0, Outcome.UNPARSABLE)
    return Reward(1.0, Outcome.CORRECT) if right else Reward(0.0, Outcome.WRONG)


def check_answers(problems: Iterable[Problem]) -> list[tuple[str, str]]:
    """The problems whose reference answer the grader cannot parse, as (id, reason).

    Such an answer can still be matched by its exact spelling, but no other way of writing it will be accepted.
    """
    return [(p.id, reason) for p in problems if (reason := unreadable(p.answer)) is not None]


def unreadable(answer: str) -> str | None:
    """Why a reference answer cannot be parsed, or None when it can."""
    text = reference_answer(answer)
    if not text:
        return "the answer is empty"
    if len(text) > 4 * MAX_ANSWER_CHARS + MAX_DIGITS:
        return "the answer is too long"
    try:
        parse_answer(normalize(text))
    except (Unparsable, RecursionError) as error:
        return f"{text[:80]!r}: {error}"
    return None
