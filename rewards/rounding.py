"""Decimals that stand for numbers whose own decimals do not end: rounded, or cut off, after enough digits."""

from fractions import Fraction

from rewards.exact import approximate, rational
from rewards.expression import Negative, Node, Number, Percent
from rewards.rules import Rules

Decimal = tuple[Fraction, int, int]
"""A literal's value, its significant digits, and its decimal places."""


def decimal(node: Node) -> Decimal | None:
    """A literal with a decimal point, or None."""
    match node:
        case Number(value, digits, places) if digits:
            return value, digits, places
        case Negative(inner):
            found = decimal(inner)
            return None if found is None else (-found[0], found[1], found[2])
        case Percent(inner):
            found = decimal(inner)
            return None if found is None else (found[0] / 100, found[1], found[2] + 2)
        case _:
            return None


def rounds_rational(literal: Node, exact: Fraction, rules: Rules) -> bool:
    """Whether a decimal literal is a reading of a fraction that does not end."""
    found = decimal(literal)
    return found is not None and not terminates(exact) and _is_reading(found, exact, rules)


def terminates(value: Fraction) -> bool:
    """Whether the decimals of a fraction end."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def rounds(literal: Node, exact: Node, rules: Rules) -> bool:
    """Whether a decimal literal is a reading of an irrational constant."""
    found = decimal(literal)
    if found is None or rules.decimals == "exact" or rational(exact) is not None:
        return False
    value, scale = approximate(exact, {})
    if found[1] < rules.decimals or abs(value - float(found[0])) > max(1e-5, 10.0 ** (1 - rules.decimals)) * scale:
        return False
    from rewards.symbolic import digits_of

    precise = digits_of(exact)
    return precise is not None and _is_reading(found, precise, rules)


def _is_reading(found: Decimal, exact: Fraction, rules: Rules) -> bool:
    """Whether the decimal is ``exact`` rounded, or cut off, at the digits shown."""
    value, digits, places = found
    if rules.decimals == "exact" or digits < rules.decimals or value * exact <= 0:
        return False
    unit = Fraction(10) ** -places
    short = abs(exact) - abs(value)
    # A number printed from a double has noise in its 16th and 17th digit.
    return abs(short) <= max(unit / 2, abs(exact) / 2**52) or 0 <= short < unit
