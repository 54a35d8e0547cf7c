"""Decimals that stand for numbers whose own decimals do not end: rounded, or cut off, after enough digits."""

from fractions import Fraction

from rewards.mathematics.expressions.evaluate import approximate, rational
from rewards.mathematics.expressions.tree import Negative, Node, Number, Percent, Power, Product
from rewards.rules import Rules

MAX_EXPONENT = 300
Decimal = tuple[Fraction, int, int]
"""A literal's value, its significant digits, and its decimal places."""


def decimal(node: Node) -> Decimal | None:
    """A literal with a decimal point, or None."""
    match node:
        case Number(value, digits, places) if digits:
            ends_in_zero = value.denominator > 1 and places > 0 and value * 10**places % 10 == 0
            return value, digits + ends_in_zero, places  # the last of 0.301030 is a digit shown; of more zeros, one is
        case Product((inner, Power(Number(value), exponent))) if (
            value == 10 and (power := _whole(exponent)) is not None
        ):
            literal = decimal(inner)
            return None if literal is None else (literal[0] * Fraction(10) ** power, literal[1], literal[2] - power)
        case Negative(inner):
            literal = decimal(inner)
            return None if literal is None else (-literal[0], literal[1], literal[2])
        case Percent(inner):
            literal = decimal(inner)
            return None if literal is None else (literal[0] / 100, literal[1], literal[2] + 2)
        case _:
            return None


def _whole(exponent: Node) -> int | None:
    value = rational(exponent)
    return int(value) if value is not None and value.denominator == 1 and abs(value) <= MAX_EXPONENT else None


def rounds_rational(literal: Node, exact: Fraction, rules: Rules) -> bool:
    """Return True if a decimal literal is a reading of a fraction that does not end."""
    reading = decimal(literal)
    return reading is not None and not terminates(exact) and _is_reading(reading, exact, rules)


def terminates(value: Fraction) -> bool:
    """Return True if the decimals of a fraction end."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def rounds(literal: Node, exact: Node, rules: Rules) -> bool:
    """Return True if a decimal literal is a reading of an irrational constant."""
    reading = decimal(literal)
    if reading is None or rules.decimals == "exact" or rational(exact) is not None:
        return False
    value, scale = approximate(exact, {})
    if reading[1] < rules.decimals or abs(value - float(reading[0])) > max(1e-5, 10.0 ** (1 - rules.decimals)) * scale:
        return False
    from rewards.mathematics.values.symbolic import digits_of

    precise = digits_of(exact)
    return precise is not None and _is_reading(reading, precise, rules)


def _is_reading(reading: Decimal, exact: Fraction, rules: Rules) -> bool:
    """Return True if the decimal is ``exact`` rounded, or cut off, at the digits shown."""
    value, digits, places = reading
    if rules.decimals == "exact" or digits < rules.decimals or value * exact <= 0:
        return False
    unit = Fraction(10) ** -places
    short = abs(exact) - abs(value)
    # A number printed from a double has noise in its 16th and 17th digit.
    return abs(short) <= max(unit / 2, abs(exact) / 2**52) or 0 <= short < unit
