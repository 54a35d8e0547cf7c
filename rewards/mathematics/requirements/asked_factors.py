"""Products as questions ask for them: as many factors as the reference has, or primes."""

from math import isqrt

from rewards.mathematics.expressions.evaluate import rational, variables
from rewards.mathematics.expressions.nodes import denominators, is_count, is_root, nodes
from rewards.mathematics.expressions.shapes import Answer, Scalar
from rewards.mathematics.expressions.tree import Node, Power, Quotient, factors, walk

MAX_PRIME = 10**9
"""Larger factors are not looked at: trial division takes 31,623 steps up to here."""


def is_factored(given: Answer, expected: Answer) -> bool:
    """A product of as many factors as the reference has."""
    if not isinstance(expected, Scalar) or not variables(expected.node):
        return True
    divided = any(variables(bottom) for bottom in denominators(expected.node))
    if not divided and any(variables(bottom) for node in nodes(given) for bottom in denominators(node)):
        return False
    if _has_roots(given) and not _has_roots(expected):
        return False  # the square of a root is no factor
    return _count_factors(given) >= _count_factors(expected) > 1


def is_prime_factorization(given: Answer, _: Answer) -> bool:
    """Return True if every factor is a prime or a power of one: 2^3 * 3^2 * 5, and not 8 * 9 * 5 or 360."""
    return all(_is_prime(f.base if isinstance(f, Power) else f) for node in nodes(given) for f in factors(node))


def _has_roots(answer: Answer) -> bool:
    return any(is_root(part) for node in nodes(answer) for part in walk(node))


def _is_prime(node: Node) -> bool:
    value = rational(node)
    if value is None or value.denominator != 1 or not 1 < value < MAX_PRIME:
        return False
    number = int(value)
    return all(number % k for k in range(2, isqrt(number) + 1))


def _count_factors(answer: Answer) -> int:
    expressions = nodes(answer)
    return sum(_multiplicity(f) for node in expressions for f in factors(node))


def _multiplicity(factor: Node) -> int:
    if isinstance(factor, Power) and is_count(factor.exponent):
        return _multiplicity(factor.base) * min(int(rational(factor.exponent) or 1), 100)
    if isinstance(factor, Quotient):
        return sum(_multiplicity(f) for f in factors(factor.top))
    return 1 if variables(factor) else 0
