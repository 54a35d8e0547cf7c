"""Bounds on expressions before sympy sees them: it would multiply some out, or factor their numbers, for ever."""

import math

from rewards.mathematics.expressions.evaluate import MAX_SYMBOLIC_EXPONENT, rational, variables
from rewards.mathematics.expressions.tree import (
    Call,
    Negative,
    Node,
    Percent,
    PlusMinus,
    Power,
    Product,
    Quotient,
    Sum,
    Symbol,
    Unparsable,
    walk,
)

MAX_RADICAND_BITS = 256
"""A larger whole number under a root is not looked at: taking squares out of it needs its factors."""
MAX_TERMS = 4_000
"""Monomials an expression may have when multiplied out."""


def check_size(node: Node) -> None:
    """Raise `Unparsable` for a tree whose symbolic form sympy could multiply out, or factor, for ever."""
    for each in walk(node):
        match each:
            case Symbol("∞"):
                raise Unparsable("arithmetic with infinity")
            case Call("root", (inner, _)) | Power(inner, Quotient()):
                value = rational(inner)
                if value is not None and max(abs(value.numerator), value.denominator).bit_length() > MAX_RADICAND_BITS:
                    raise Unparsable("a root of a number too large to look at")
            case Call("factorial" | "binom", _) if rational(each) is None and not variables(each):
                raise Unparsable("a factorial of a number that is not whole")
            case Call("factorial" | "binom", arguments) if any(map(_is_counted, arguments)):
                raise Unparsable("a factorial of a factorial")
            case _:
                pass
    if monomials(node) > MAX_TERMS:
        raise Unparsable("too many terms when multiplied out")


def _is_counted(node: Node) -> bool:
    """Return True if an argument of a factorial is more than a short polynomial."""
    nodes = walk(node)
    return len(nodes) > 20 or any(isinstance(n, Call | Power) for n in nodes)


def monomials(node: Node) -> int:
    """An upper bound on the terms of the expression when multiplied out."""
    match node:
        case Sum(terms):
            return min(MAX_TERMS + 1, sum(monomials(t) for t in terms))
        case Product(factors):
            return _product_terms([monomials(f) for f in factors])
        case Quotient(top, bottom):
            return max(monomials(top), monomials(bottom))
        case Power(base, exponent):
            power = rational(exponent)
            if power is None or power.denominator != 1:
                return max(monomials(base), monomials(exponent))
            terms, times = monomials(base), min(abs(int(power)), MAX_SYMBOLIC_EXPONENT)
            return 1 if terms == 1 else min(MAX_TERMS + 1, math.comb(min(terms, MAX_TERMS) + times - 1, times))
        case Negative(inner) | Percent(inner) | PlusMinus(inner, _):
            return monomials(inner)
        case _:
            return 1


def _product_terms(counts: list[int]) -> int:
    total = 1
    for count in counts:
        total = min(MAX_TERMS + 1, total * count)
    return total
