"""An answer that only says its question again, however it is spelt: ``(x+3)(x+2)`` for ``(x+2)(x+3)``.

What an expression of the question is worth is no answer to it. The question's own numbers and letters in another order,
with other signs, with zeros, ones and roots for powers, or its number in its own notation, are the question. What the
reference repeats of its question (order these; which of them) may be repeated.
"""

import re
from collections import Counter
from collections.abc import Iterator
from math import gcd

from rewards.mathematics.expressions.evaluate import rational, variables
from rewards.mathematics.expressions.nodes import COMPOUND, nodes
from rewards.mathematics.expressions.shapes import Answer, Relation
from rewards.mathematics.expressions.tree import (
    Call,
    Negative,
    Node,
    Number,
    Percent,
    Product,
    Quotient,
    Symbol,
    Unparsable,
    walk,
)
from rewards.mathematics.parse.answer import parse_answer
from rewards.mathematics.requirements.unevaluated import is_numeral, is_power_of_ten
from rewards.mathematics.text.formulas import formulas
from rewards.mathematics.text.normalize import normalize
from rewards.mathematics.values.equality import close

MAX_FORMULAS = 20
"""Formulas of a question that are looked at."""
MAX_PARTS = 400
SLACK = 3
"""Signs that an answer may have more than its reference before it counts as no simpler than the question."""
_PLAIN = re.compile(r"[-(]?[\d.(][\d\s.+\-*/^()!%×÷√]*[\d)!%]|\d")
_CONVERT = re.compile(
    r"\b(?:express|write|rewrite|convert|change|turn|simplif\w+|reduce|as an?|into an?|to an?|in \w+ (?:form|"
    r"notation|terms))\b",
    re.IGNORECASE,
)
"""A question that asks for another notation of one of its numbers."""
_WHOLE = re.compile(r"(?<![\d.,])\d{1,9}(?![\d.,]*\d)")
_DIVIDED = re.compile(r" divided by | over ")
_POINT = (0.7390851, 1.2020569, 0.5671432, 1.3247179, 2.6180339)


def is_restatement(question: str, expected: Answer, given: Answer) -> bool:
    """Return True if a part of the answer is an expression of the question, and no part of the reference."""
    if not question:
        return False
    expected_leaves = [_leaves(n) for n in nodes(expected)]
    asked = list(_expressions(question))
    converts = _CONVERT.search(question) is not None
    candidates = [
        n for n in nodes(given) if isinstance(n, COMPOUND) or (converts and notation(n) not in ("whole", "name"))
    ]
    if _is_plugged_in(question, expected, given):
        return True
    if isinstance(given, Relation) and isinstance(expected, Relation) and len(given.sides) == 2:
        return _repeats_equation(question, expected, given)
    return any(_leaves(node) not in expected_leaves and _is_asked(node, asked, nodes(expected)) for node in candidates)


def _is_plugged_in(question: str, expected: Answer, given: Answer) -> bool:
    """Return True for a number of the question over one that divides it, as in 350/100 dollars and 45π/180, unless a
    fraction of numbers is what was asked for."""
    if any(notation(n) in ("fraction", "mixed", "repeating") for n in nodes(expected)):
        return False
    asked = {int(n) for n in _WHOLE.findall(question)}
    for part in (p for node in nodes(given) for p in walk(node) if isinstance(p, Quotient)):
        top, bottom = (_whole_factor(n) for n in (part.top, part.bottom))
        if top > 1 and bottom > 1 and gcd(top, bottom) > 1 and asked & {top, bottom}:
            return True
    return any(
        isinstance(p, Product) and _whole_factor(p) in asked and any(_divides(f, _whole_factor(p)) for f in p.factors)
        for node in nodes(given)
        for p in walk(node)
    )


def _whole_factor(node: Node) -> int:
    """The whole number that a product has as its only one, or 1."""
    values = [rational(f) for f in (node.factors if isinstance(node, Product) else (node,)) if isinstance(f, Number)]
    value = values[0] if len(values) == 1 else None
    return 1 if value is None or value.denominator != 1 else abs(int(value))


def _divides(factor: Node, whole: int) -> bool:
    """Return True for a quotient whose divisor has a factor in common with a whole number."""
    return isinstance(factor, Quotient) and whole > 1 and gcd(whole, _whole_factor(factor.bottom)) > 1


def _is_asked(node: Node, asked: list[Node], expected: list[Node]) -> bool:
    sizes = [_size(n) for n in expected]
    kinds = {notation(n) for n in expected}
    for part in asked:
        same_leaves = _leaves(part) == _leaves(node)
        if isinstance(node, COMPOUND) and isinstance(part, COMPOUND):
            no_simpler = _size(node) >= _size(part) - 1 and _size(node) > max(sizes, default=0) + SLACK
            if (same_leaves or (no_simpler and variables(node))) and _agree(node, part):
                return True
        elif same_leaves and notation(node) not in kinds and rational(node) == rational(part) is not None:
            return True
    return False


def notation(node: Node) -> str:
    """Return a number's notation: whole, decimal, repeating, mixed, fraction, percent, scientific, name or compound."""
    match node:
        case Negative(inner):
            return notation(inner)
        case Percent():
            return "percent"
        case Number(value, digits):
            return node.notation or ("decimal" if digits else "whole" if value.denominator == 1 else "mixed")
        case Symbol():
            return "name"
        case Quotient() if is_numeral(node):
            return "fraction"
        case _:
            return "scientific" if is_numeral(node) and not is_power_of_ten(node) else "compound"


def _repeats_equation(question: str, expected: Relation, given: Relation) -> bool:
    """Return True if an equation is one of the question, signs aside, and the reference has another form."""
    if "=" not in question:
        return False
    leaves = sum((_leaves(s) for s in given.sides), Counter[str]())
    expected_leaves = sum((_leaves(s) for s in expected.sides), Counter[str]())
    if leaves == expected_leaves:
        return False
    for formula in formulas(question)[:MAX_FORMULAS]:
        try:
            asked = parse_answer(normalize(formula))
        except (Unparsable, RecursionError):
            continue
        if isinstance(asked, Relation) and sum((_leaves(s) for s in asked.sides), Counter[str]()) == leaves:
            return True
    return False


def _expressions(question: str) -> Iterator[Node]:
    """Every part of every expression of the question, in formulas and in plain text."""
    plain = re.sub(r"\$[^$]*\$", " ", question)
    texts = [*formulas(question)[:MAX_FORMULAS], *_PLAIN.findall(_DIVIDED.sub("/", plain))[:MAX_FORMULAS]]
    count = 0
    for text in texts:
        try:
            expressions = nodes(parse_answer(normalize(text.strip(" .,"))))
        except (Unparsable, RecursionError):
            continue
        for node in expressions:
            for part in walk(node):
                count += 1
                if count > MAX_PARTS:
                    return
                yield part


def _leaves(node: Node) -> Counter[str]:
    """The numbers and letters of an expression, without signs, zeros and ones. A root is its power."""
    leaves = Counter[str]()
    for each in walk(node):
        match each:
            case Number(value) if value not in (0, 1):
                if value.denominator > 1 and not each.digits and not each.notation:
                    leaves.update((str(value.numerator), str(value.denominator)))
                else:
                    leaves[str(value)] += 1
            case Symbol(name):
                leaves[name] += 1
            case Percent():
                leaves["%"] += 1
            case Call(name) if name != "root":
                leaves[name] += 1
            case _:
                pass
    return leaves


def _size(node: Node) -> int:
    return sum(not isinstance(n, Negative) for n in walk(node))


def _agree(left: Node, right: Node) -> bool:
    names = sorted(variables(left) | variables(right))
    try:
        exact = rational(left), rational(right)
        if None not in exact:
            return exact[0] == exact[1]
        return close(left, right, {n: complex(_POINT[i % 5]) * (1 + i // 5) for i, n in enumerate(names)})
    except Unparsable:
        return False
