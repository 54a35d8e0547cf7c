"""Decides if an answer says the same as the reference. When in doubt it does not: a policy finds every false "equal".

Order, from the cheapest test on: the same spelling; the same shape; exact rationals; a value in double precision,
which only ever turns answers away; a symbolic proof. Tolerance is relative and comes from digits shown: a decimal
stands for an irrational or non-terminating number when it is that number rounded, or cut off, after enough
significant digits (`values.rounding`).
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from rewards.mathematics.compare.angle import in_radians
from rewards.mathematics.compare.comma_readings import readings
from rewards.mathematics.compare.congruence import as_congruence
from rewards.mathematics.compare.integration_constant import with_constant
from rewards.mathematics.compare.lists import grouped_assignments, same_items, same_union
from rewards.mathematics.compare.named_values import same_named
from rewards.mathematics.compare.relation import found_value, same_relation
from rewards.mathematics.compare.shared_notation import in_shared_notation
from rewards.mathematics.compare.unit_conversion import converted
from rewards.mathematics.compare.vector_components import as_point
from rewards.mathematics.expressions.evaluate import rational, variables
from rewards.mathematics.expressions.interval import as_interval
from rewards.mathematics.expressions.shapes import (
    Answer,
    Based,
    Congruence,
    Described,
    Items,
    Matrix,
    Named,
    Ratio,
    Relation,
    Scalar,
    Union,
    Words,
)
from rewards.mathematics.expressions.tree import Negative, Node, Percent, Quotient, Symbol, Unparsable, walk
from rewards.mathematics.parse.answer import parse_answer
from rewards.mathematics.text.normalize import MAX_ANSWER_CHARS, MAX_DIGITS, normalize
from rewards.mathematics.text.unit import units_agree
from rewards.mathematics.values.equality import same_value
from rewards.rules import STRICT, Rules

_PLAIN_INTEGER = re.compile(r"[+-]?\d{1,18}")
_OF_RATIOS = re.compile(r"\bratios?\b|\bproportion|\bscale\b|\d ?:|: ?\d|[a-z]:[a-z]", re.IGNORECASE)
_ARTICLES = re.compile(r"^(?:the|a|an) ")


def equivalent(reference: str, answer: str, *, percent: bool = False, rules: Rules = STRICT) -> bool:
    """Return True if two answers, as written by a data set and by a model, mean the same.

    ``percent`` says that the question asks for a percentage, so that ``60`` and ``60%`` both mean sixty percent;
    otherwise ``60%`` is 0.6. Raises `Unparsable` when one of them cannot be read and they are not spelt the same.
    """
    left, right = _integer(reference), _integer(answer)
    if left is not None and right is not None:
        return left == right
    if max(len(reference), len(answer)) > 4 * MAX_ANSWER_CHARS + MAX_DIGITS:
        raise Unparsable("longer than an answer")
    rules = replace(rules, percent=True) if percent else rules
    expected, given = in_shared_notation(normalize(reference), normalize(answer), rules.question)
    if expected == given and expected:
        return True
    return any(same(parse_answer(a), parse_answer(b), rules) for a, b in readings(expected, given, rules.question))


def _exclude(conditions: Sequence[Answer], value: Scalar) -> bool:
    """Return True for numbers that a letter must not be: x + 1, x ≠ 1."""
    return all(
        isinstance(c, Relation)
        and c.signs == ("≠",)
        and isinstance(c.sides[0], Symbol)
        and c.sides[0].name in variables(value.node)
        and rational(c.sides[1]) is not None
        for c in conditions
    )


def _integer(text: str) -> int | None:
    text = text.strip()
    return int(text) if _PLAIN_INTEGER.fullmatch(text) else None


def same(reference: Answer, answer: Answer, rules: Rules = STRICT) -> bool:
    """Return True if two parsed answers mean the same. Not symmetric: the reference decides what form was asked for."""

    def again(left: Answer, right: Answer) -> bool:
        return same(left, right, rules)

    reference, answer = _unwrapped(reference), _unwrapped(answer)
    if isinstance(reference, Congruence):
        answer = as_congruence(answer) or answer
    if isinstance(reference, Named) or isinstance(answer, Named):
        return same_named(reference, answer, rules, again)
    match reference, answer:
        case Scalar(), Scalar():
            return _same_scalar(reference, answer, rules)
        case Items(), Items():
            return same_items(reference, answer, again)
        case Union(), Union():
            return same_union(reference, answer, again)
        case (Union(), Items("", "", pieces)) if all(isinstance(p, Items) and p.left in "([" for p in pieces):
            return same_union(reference, Union(pieces), again)  # (0, 1) or (2, 3)
        case Relation(), Relation():
            return same_relation(reference, answer, rules)
        case Scalar(), Items("", "", (Scalar() as value, *conditions)) if _exclude(conditions, value):
            return again(reference, value)
        case Scalar(), Relation():
            value = found_value(answer, rules.question)  # m + n = 293 for 293
            return value is not None and _same_scalar(reference, value, rules)
        case (Relation(), Items() | Union()) | (Items() | Union(), Relation()):
            left, right = as_interval(reference), as_interval(answer)
            return left is not None and right is not None and not isinstance(right, Relation) and again(left, right)
        case _:
            return _same_special(reference, answer, rules)


def _same_special(reference: Answer, answer: Answer, rules: Rules) -> bool:
    """Compare shapes that only equal their own kind, or one that is another spelling of it."""
    match reference, answer:
        case Words(left), Words(right):
            return _ARTICLES.sub("", left) == _ARTICLES.sub("", right)
        case (Words(text), Scalar(Symbol(name))) | (Scalar(Symbol(name)), Words(text)):
            return len(text) == 1 and name.isupper() and text == name.lower()
        case Matrix(), Matrix():
            return _same_matrix(reference, answer, rules)
        case (Based(), Based()) | (Described(), Described()):
            return reference == answer
        case Congruence(), Congruence():
            named = reference.name == answer.name or not (reference.name and answer.name)
            return named and (reference.residue, reference.modulus) == (answer.residue, answer.modulus)
        case Ratio(), Ratio():
            return _same_ratio(reference, answer)
        case (Scalar(), Ratio()) if rules.question and not _OF_RATIOS.search(rules.question):
            return False  # 1:6 is no probability
        case (Ratio((top, bottom), False), Scalar(node)) | (Scalar(node), Ratio((top, bottom), False)):
            return same_value(Quotient(top, bottom), node, rules.of_values)
        case _:
            left, right = as_point(reference, answer), as_point(answer, reference)
            return left is not None and right is not None and same_items(left, right, lambda a, b: same(a, b, rules))


def _same_matrix(reference: Matrix, answer: Matrix, rules: Rules) -> bool:
    """Return True if two matrices have one shape, and the same value in each cell."""
    if [len(row) for row in reference.rows] != [len(row) for row in answer.rows]:
        return False
    rows = zip(reference.rows, answer.rows, strict=True)
    return all(same_value(a, b, rules.of_values) for row in rows for a, b in zip(*row, strict=True))


def _unwrapped(answer: Answer) -> Answer:
    """A list of one, or a set of one, is its item; assignments that repeat are points."""
    while isinstance(answer, Items) and len(answer.items) == 1:
        answer = answer.items[0]
    return grouped_assignments(answer) if isinstance(answer, Items) else answer


def _same_scalar(reference: Scalar, answer: Scalar, rules: Rules) -> bool:
    if not units_agree(reference.unit, answer.unit, rules.question):
        value = converted(reference, answer, rules.question)
        return value is not None and same_value(reference.node, value, Rules(decimals="exact"))
    if (radians := in_radians(reference, answer, rules.question)) is not None:
        return same_value(reference.node, radians, rules.of_values)
    if "degree" in answer.unit and not reference.unit and Symbol("π") in walk(reference.node):
        return False  # π/3 degrees are no π/3
    left, right = reference.node, with_constant(reference.node, answer.node)
    if rules.percent:
        left, right = _without_percent(left), _without_percent(right)
    return same_value(left, right, rules.of_values)


def _without_percent(node: Node) -> Node:
    if isinstance(node, Negative):
        return Negative(_without_percent(node.inner))
    return node.inner if isinstance(node, Percent) else node


def _same_ratio(reference: Ratio, answer: Ratio) -> bool:
    if reference.clock or answer.clock or len(reference.terms) != len(answer.terms):
        return reference.terms == answer.terms  # 3:30 may be a ratio, but then none that is reduced
    first, first_given = reference.terms[0], answer.terms[0]
    pairs = zip(reference.terms[1:], answer.terms[1:], strict=True)
    if any(rational(t) == 0 for t in (first, first_given)):
        return False
    crossed = ((Quotient(a, first), Quotient(b, first_given)) for a, b in pairs)
    return all(same_value(left, right) for left, right in crossed)
