"""Tests of the form of one expression: reduced, expanded, with no decimals, with no roots below a line, ..."""

from collections.abc import Callable, Iterator
from math import gcd, isqrt

from rewards.mathematics.expressions.evaluate import rational, variables
from rewards.mathematics.expressions.nodes import denominators, is_count, is_root
from rewards.mathematics.expressions.tree import (
    Call,
    Negative,
    Node,
    Number,
    Power,
    Product,
    Quotient,
    Sum,
    Symbol,
    factors,
    parts,
    terms,
    walk,
)
from rewards.mathematics.requirements.restatement import notation
from rewards.mathematics.requirements.unevaluated import letter_below


def _numerals(node: Node) -> Iterator[Node]:
    """The numbers in an expression, fractions whole."""
    pending = [node]
    while pending:
        each = pending.pop()
        if notation(each) in ("compound", "name"):
            pending.extend(parts(each))
        else:
            yield each


def without(*kinds: str) -> Callable[[Node], bool]:
    """Return a test that no number of an expression is written in one of these ways: see `notation`."""
    return lambda node: not any(notation(n) in kinds for n in _numerals(node))


def is_reduced(node: Node) -> bool:
    """Return True if there is no fraction whose numbers have a common divisor: 6/8, 16x/2."""
    return not any(isinstance(n, Quotient) and _cancels(n.top, n.bottom) for n in walk(node))


def _cancels(top: Node, bottom: Node) -> bool:
    letters = [{letter_below(f) for f in factors(n)} - {None} for n in (top, bottom)]
    if letters[0] & letters[1]:
        return True
    upper, lower = _coefficient(top), _coefficient(bottom)
    return (upper is not None and lower is not None and gcd(upper, lower) > 1) or abs(rational(bottom) or 0) == 1


def _coefficient(node: Node) -> int | None:
    """The whole number that a product begins with, or that all terms of a sum share; None without one."""
    if isinstance(node, Sum):
        shared = [_coefficient(t) for t in terms(node)]
        return None if None in shared else gcd(*(s for s in shared if s is not None))
    values = [rational(f) for f in factors(node) if isinstance(f, Number)]
    whole = values[0] if len(values) == 1 else None
    return None if whole is None or whole.denominator != 1 else abs(int(whole))


def _is_improper(node: Node) -> bool:
    value = rational(node) if notation(node) == "fraction" else None
    return value is not None and abs(value) > 1


def is_mixed(node: Node) -> bool:
    """Return True for whole and mixed numbers, and fractions below 1."""
    return not _is_improper(node) and without("decimal", "percent")(node)


def has_rational_denominators(node: Node) -> bool:
    """Return True without a root below a line."""
    return not any(map(is_root, (part for bottom in denominators(node) for part in walk(bottom))))


def has_positive_exponents(node: Node) -> bool:
    """Return True without a sign before an exponent."""
    return not any(isinstance(n, Power) and isinstance(n.exponent, Negative) for n in walk(node))


def has_real_denominators(node: Node) -> bool:
    """Return True without an i below a line."""
    return not any(isinstance(n, Quotient) and Symbol("i") in walk(n.bottom) for n in walk(node))


def has_small_radicands(node: Node) -> bool:
    """Return True without the root of a number with a square in it, and without two roots beside each other."""
    products = [factors(n) for n in walk(node) if isinstance(n, Product)]
    if any(sum(is_root(f) and rational(f) is None and not variables(f) for f in fs) > 1 for fs in products):
        return False  # two roots of numbers are one
    roots = [n.arguments for n in walk(node) if isinstance(n, Call) and n.name == "root"]
    return not any(_has_square(radicand) for radicand, degree in roots if rational(degree) == 2)


def _has_square(radicand: Node) -> bool:
    value = rational(radicand)
    if value is None or value.denominator != 1 or not 1 < abs(value) < 10**6:
        return value is not None and value.denominator != 1
    number = int(abs(value))
    return any(number % (k * k) == 0 for k in range(2, isqrt(number) + 1))


def is_expanded(node: Node) -> bool:
    """Return True without a sum within a product or under a whole power."""
    for each in walk(node):
        if isinstance(each, Product) and any(isinstance(f, Sum) and variables(f) for f in factors(each)):
            return False
        if isinstance(each, Power) and isinstance(each.base, Sum) and variables(each.base) and is_count(each.exponent):
            return False
        if isinstance(each, Power) and isinstance(each.base, Product) and is_count(each.exponent):
            return False
        if isinstance(each, Negative) and isinstance(each.inner, Sum):
            return False
    return True
