"""Compares equations, and inequalities."""

import re
from fractions import Fraction

from rewards.mathematics.compare.asked_formulas import asks_for
from rewards.mathematics.expressions.evaluate import is_known, variables
from rewards.mathematics.expressions.interval import spanned
from rewards.mathematics.expressions.shapes import Answer, Named, Relation, Scalar
from rewards.mathematics.expressions.tree import Call, Negative, Node, Number, Product, Quotient, Sum, Symbol, walk
from rewards.mathematics.values.equality import same_value, substitute, vanishes
from rewards.rules import STRICT, Rules

_APPLIED = re.compile(r"([fgFG])\(([a-z])\)")


def same_relation(reference: Relation, answer: Relation, rules: Rules = STRICT) -> bool:
    """Equations up to a constant factor, inequalities by their intervals or side by side."""
    rules = rules.of_values
    left, right = spanned(reference), spanned(answer)
    if left is not None and right is not None:
        brackets_agree = (left[1].left, left[1].right) == (right[1].left, right[1].right)
        return left[0] == right[0] and brackets_agree and _same_ends(left[1].items, right[1].items, rules)
    if left is not None or right is not None:
        return False  # x > 5 is a solution; x - 5 > 0 only repeats the question
    a, b = _ascending(reference), _ascending(answer)
    if a.signs != b.signs:
        return False
    if len(a.sides) == 2:
        first, second = (Sum((r.sides[0], Negative(r.sides[1]))) for r in (a, b))
        return proportional(first, second) if a.signs[0] in "=≠" else same_value(first, second, rules)
    return all(same_value(x, y, rules) for x, y in zip(a.sides, b.sides, strict=True))


def _same_ends(left: tuple[Answer, ...], right: tuple[Answer, ...], rules: Rules) -> bool:
    return all(
        isinstance(a, Scalar) and isinstance(b, Scalar) and same_value(a.node, b.node, rules)
        for a, b in zip(left, right, strict=True)
    )


def _ascending(relation: Relation) -> Relation:
    if not set(relation.signs) <= {">", "≥"}:
        return relation
    return Relation(relation.sides[::-1], tuple("<" if s == ">" else "≤" for s in reversed(relation.signs)))


def proportional(left: Node, right: Node) -> bool:
    """Return True if ``left = 0`` and ``right = 0`` are one equation up to a constant factor."""
    names = variables(left)
    if not names or names != variables(right):
        return False
    for first in (7, 22, 41):
        point = {name: Number(Fraction(31 * i + first, 13)) for i, name in enumerate(sorted(names))}
        at_left, at_right = substitute(left, point), substitute(right, point)
        if not (vanishes(at_left) or vanishes(at_right)):
            return same_value(Product((left, at_right)), Product((right, at_left)))
    return False


def as_equation(answer: Answer) -> Relation | None:
    """An equation, also one that reads like a name with its value; None for the solution x = 5."""
    if isinstance(answer, Relation):
        return answer
    if isinstance(answer, Named) and isinstance(answer.value, Scalar) and (applied := _APPLIED.fullmatch(answer.name)):
        name, letter = applied.groups()
        if not any(isinstance(n, Call) and n.name == name for n in walk(answer.value.node)):
            return None  # f(x) = 2x is a solution
        return Relation((Call(name, (Symbol(letter),)), answer.value.node), ("=",))  # f(x) = f(-x)
    if isinstance(answer, Named) and isinstance(answer.value, Scalar) and len(answer.name) == 1:
        if not variables(answer.value.node):
            return None  # x = 5 is a solution; 2x = 10 only repeats the question
        return Relation((Symbol(answer.name), answer.value.node), ("=",))
    return None


def found_value(relation: Relation, question: str = "") -> Scalar | None:
    """The right side of ``a + b = 5``: what an expression of letters, or one that the question asks for, was found to
    be."""
    if relation.signs != ("=",) or variables(relation.sides[1]):
        return None
    left = relation.sides[0]
    if asks_for(question, left):
        return Scalar(relation.sides[1])
    if isinstance(left, Symbol | Negative) or not all(map(_is_of_letters, walk(left))):
        return None
    return Scalar(relation.sides[1])


def _is_of_letters(node: Node) -> bool:
    """Return True for what a letter may be put for: |x| = 5, x! = 6 and -x = 5 leave x open. |A| and |z| have names."""
    if isinstance(node, Call):
        letter = isinstance(node.arguments[0], Symbol) and re.fullmatch(r"[a-vxy]", node.arguments[0].name) is not None
        return not is_known(node.name) or node.name in ("floor", "ceil") or (node.name == "abs" and not letter)
    return isinstance(node, Symbol | Sum | Product | Quotient | Negative)
