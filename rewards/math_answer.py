"""The default reward: 1 when the completion's final answer equals the problem's, else 0, always with the reason.

The statements that end the text are found (`mathematics.extract`); each is compared with the reference
(`mathematics.compare`); and one that is equal must be an answer at all (`mathematics.requirements`).
"""

import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rewards.mathematics.compare.asked_formulas import names_another
from rewards.mathematics.compare.asked_unit import fits_question, without_asked
from rewards.mathematics.compare.equivalence import equivalent
from rewards.mathematics.compare.relation import found_value
from rewards.mathematics.compare.shared_notation import in_shared_notation
from rewards.mathematics.compare.vector_components import as_point
from rewards.mathematics.expressions.shapes import Items, Matrix, Relation, Scalar
from rewards.mathematics.expressions.tree import Unparsable
from rewards.mathematics.extract.final_answer import as_list, extract_statements, reference_answer
from rewards.mathematics.extract.statement import Statement
from rewards.mathematics.parse.answer import parse_answer
from rewards.mathematics.requirements.asked_form import has_form
from rewards.mathematics.requirements.asked_order import as_lists, keeps_order, without_labels
from rewards.mathematics.requirements.restatement import is_restatement
from rewards.mathematics.requirements.unevaluated import is_evaluated
from rewards.mathematics.text.decoration import undecorated_answer, with_unit_of
from rewards.mathematics.text.normalize import MAX_ANSWER_CHARS, MAX_DIGITS, normalize
from rewards.mathematics.text.quantity import is_another_quantity, label
from rewards.rules import STRICT, Rules
from rewards.types import Outcome, Problem, Reward

_PERCENT = re.compile(
    r"(?:\b(?:what|which|find|determine|calculate|compute|express|give|write|how|nearest|answer|whole|by)\b[^.?!\d%]*?"
    r"|\b(?:as|in) an? ?)(?:per ?cent|%)",
    re.IGNORECASE,
)
"""A question that asks for a percentage, not one that only gives some."""
_OF_PERCENT = re.compile(r"per ?cent|%|\bpct\b|\brate\b", re.IGNORECASE)
_POSITIVE = re.compile(r"\b(?:positive|non-?negative)\b|(?:>|≥|\\gt|\\geq?|\\geqslant)\s*0\b", re.IGNORECASE)
"""A question that says its variables are positive."""
_NUMERAL = re.compile(r"[-+$\s]*[\d,]+[\s.]*")


def math_answer(problem: Problem, completion: str, finish_reason: str = "stop", rules: Rules = STRICT) -> Reward:
    """Grade one completion. Never raises for its text; how long it may take is for whoever calls it (`GraderPool`)."""
    if finish_reason == "length" and rules.truncated == "refuse":
        return Reward(0.0, Outcome.TRUNCATED)
    try:
        stated = extract_statements(completion, problem.question)
        if not any(s.text.strip() for s in stated):
            return Reward(0.0, Outcome.NO_ANSWER)
        right = _states_answer(problem, stated, rules)
    except (Unparsable, RecursionError):
        return Reward(0.0, Outcome.UNPARSABLE)
    return Reward(1.0, Outcome.CORRECT) if right else Reward(0.0, Outcome.WRONG)


def _states_answer(problem: Problem, stated: Sequence[Statement], rules: Rules) -> bool:
    """Return True if statements that belong together are the reference as one list, or each of them is."""
    if len({s.text for s in stated}) == 1:
        return _is_stated(problem, stated[-1], rules)
    with contextlib.suppress(Unparsable):
        if is_right(problem, as_list(stated), rules):
            return True
    return all(_is_stated(problem, s, rules) for s in stated)


def _is_stated(problem: Problem, statement: Statement, rules: Rules) -> bool:
    """A percent sign behind a box belongs to it or not, whichever the reference has, if the question is of percentages
    or the reference has the sign; so does a word of the question."""
    if statement.after:
        if is_right(problem, statement.text + statement.after, rules):
            return True
        if not _OF_PERCENT.search(problem.question):
            return False
    word = statement.text.removeprefix(statement.bare).removeprefix(" \\text{ ").rstrip("s}")
    if statement.bare and word in problem.question.lower() and is_right(problem, statement.bare, rules):
        return True
    return is_right(problem, statement.text, rules)


def is_right(problem: Problem, answer: str, rules: Rules = STRICT) -> bool:
    """Return True if an answer, taken out of its completion, is right. Raises `Unparsable` if it cannot be read."""
    question, reference = problem.question, reference_answer(problem.answer)
    if is_another_quantity(label(answer), question):
        return False
    answer = answer if "(a)" in reference else without_labels(answer)
    answer = undecorated_answer(without_asked(question, answer), problem.answer.strip())
    reference, answer = as_lists(question, reference, with_unit_of(reference, answer))
    percent, positive = (asked.search(question) is not None for asked in (_PERCENT, _POSITIVE))
    rules = replace(rules, question=question, percent=percent, positive=positive)
    return (
        equivalent(reference, answer, rules=rules)
        and _is_answer(question, reference, answer, rules)
        and fits_question(question, reference, answer)
        and keeps_order(question, reference, answer)
    )


def _is_answer(question: str, reference: str, answer: str, rules: Rules) -> bool:
    """Return True if an equal answer is one at all: worked out, in the form asked for, and not the question again."""
    if _NUMERAL.fullmatch(answer) and _NUMERAL.fullmatch(reference):
        return True
    expected_text, text = in_shared_notation(normalize(reference), normalize(answer), question)
    if expected_text == text:
        return True
    expected, given = parse_answer(expected_text), parse_answer(text)
    if names_another(question, expected, given):
        return False
    if isinstance(given, Scalar) and isinstance(expected, Items | Matrix):
        given = as_point(given, expected) or given  # i + 2j for (1, 2)
    if isinstance(given, Relation) and isinstance(expected, Scalar):
        given = found_value(given, question) or given  # x + y = 17 for 17
    return (rules.unevaluated == "accept" or is_evaluated(expected, given)) and (
        rules.form == "any" or (has_form(question, expected, given) and not is_restatement(question, expected, given))
    )


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
        parse_answer(in_shared_notation(normalize(text), normalize(text))[0])
    except (Unparsable, RecursionError) as error:
        return f"{text[:80]!r}: {error}"
    return None
