"""Exact and approximate values of an expression, computed without sympy and never larger than the bounds below.

`rational` settles most answers by itself; `approximate` turns most wrong ones away in microseconds. Only what is left,
two different trees with the same value to nine digits, is worth a symbolic proof.
"""

import cmath
import math
import zlib
from collections.abc import Callable, Mapping
from fractions import Fraction

from rewards.mathematics.expressions.tree import (
    Call,
    Negative,
    Node,
    Number,
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

MAX_BITS = 40_000
"""Numerator and denominator of any value on the way: 12,000 decimal digits, enough for 2006! and 3^2005."""
MAX_FACTORIAL = 3_000
MAX_NUMERIC_EXPONENT = 1_000.0
"""For irrational values: e^1000 is still a number to sympy, e^(e^100) is an afternoon."""
MAX_SYMBOLIC_EXPONENT = 300


def rational(node: Node) -> Fraction | None:
    """The exact value when it is rational by arithmetic alone, else None. Raises `Unparsable` if undefined or huge."""
    match node:
        case Number(value):
            return bounded(value)
        case Symbol():
            return None
        case Negative(inner):
            value = rational(inner)
            return None if value is None else -value
        case Percent(inner):
            value = rational(inner)
            return None if value is None else bounded(value / 100)
        case PlusMinus():
            raise Unparsable("± has two readings")
        case Sum(terms):
            return _fold(terms, is_sum=True)
        case Product(factors):
            return _fold(factors, is_sum=False)
        case Quotient(top, bottom):
            return _divide(rational(top), rational(bottom))
        case Power(base, exponent):
            return _power(rational(base), rational(exponent))
        case Call(name, arguments):
            return _call(name, [rational(a) for a in arguments])


def bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise Unparsable("a number too large to look at")
    return value


def _fold(nodes: tuple[Node, ...], *, is_sum: bool) -> Fraction | None:
    values = [rational(n) for n in nodes]
    total = Fraction(0 if is_sum else 1)
    for value in values:
        if value is None:
            return None
        total = bounded(total + value if is_sum else total * value)
    return total


def _divide(top: Fraction | None, bottom: Fraction | None) -> Fraction | None:
    if bottom == 0:
        raise Unparsable("division by zero")
    return None if top is None or bottom is None else bounded(top / bottom)


def _power(base: Fraction | None, exponent: Fraction | None) -> Fraction | None:
    if exponent is None:
        return None
    if base is None:
        if exponent.denominator == 1 and abs(exponent) > MAX_SYMBOLIC_EXPONENT:
            raise Unparsable("a power too large to look at")
        return None
    if base == 0:
        if exponent <= 0:
            raise Unparsable("0 to a power that is not positive")
        return Fraction(0)
    if exponent.denominator != 1:
        return _root(base, exponent)
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if base not in (1, -1) and bits * abs(exponent) > MAX_BITS:
        raise Unparsable("a power too large to look at")
    return base ** (int(exponent) if base not in (1, -1) else int(exponent) % 2)


def _root(base: Fraction, exponent: Fraction) -> Fraction | None:
    """``base ** exponent`` for a fractional exponent: rational only for perfect powers of positive numbers."""
    if base < 0 or exponent.denominator > 64 or abs(exponent.numerator) > 64:
        return None
    top, bottom = (_integer_root(n, exponent.denominator) for n in (base.numerator, base.denominator))
    return None if top is None or bottom is None else _power(Fraction(top, bottom), Fraction(exponent.numerator))


def _integer_root(number: int, degree: int) -> int | None:
    """The exact ``degree``-th root of a whole number, or None. Newton's steps, all in whole numbers."""
    if number < 2:
        return number
    guess = 1 << -(-number.bit_length() // degree)
    while True:
        step = ((degree - 1) * guess + number // guess ** (degree - 1)) // degree
        if step >= guess:
            return guess if guess**degree == number else None
        guess = step


def _call(name: str, values: list[Fraction | None]) -> Fraction | None:
    known = [v for v in values if v is not None]
    if len(known) < len(values):
        return None
    if name in ("factorial", "binom"):
        if any(v.denominator != 1 or not 0 <= v <= MAX_FACTORIAL for v in known):
            raise Unparsable(f"{name} of a number that is not whole, or too large")
        return bounded(Fraction(math.factorial(int(known[0])) if name == "factorial" else math.comb(*map(int, known))))
    if name == "root":
        return _degree_root(known[0], known[1])
    if name == "abs":
        return abs(known[0])
    if name in ("floor", "ceil"):
        return Fraction(math.floor(known[0]) if name == "floor" else math.ceil(known[0]))
    return None


def _degree_root(value: Fraction, degree: Fraction) -> Fraction | None:
    if degree.denominator != 1 or not 2 <= degree <= 64:
        raise Unparsable("a root of this degree")
    if value == 0:
        return value
    if value < 0 and degree % 2 == 1:
        root = _root(-value, 1 / degree)
        return None if root is None else -root
    return _root(value, 1 / degree)


_CONSTANTS: dict[str, complex] = {"π": math.pi, "e": math.e, "i": 1j}
_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan, "sinh": cmath.sinh, "cosh": cmath.cosh, "tanh": cmath.tanh,
    "arcsin": cmath.asin, "arccos": cmath.acos, "arctan": cmath.atan, "exp": cmath.exp, "ln": cmath.log,
    "cot": lambda z: 1 / cmath.tan(z), "sec": lambda z: 1 / cmath.cos(z), "csc": lambda z: 1 / cmath.sin(z),
    "coth": lambda z: 1 / cmath.tanh(z), "sech": lambda z: 1 / cmath.cosh(z), "csch": lambda z: 1 / cmath.sinh(z),
    "arccot": lambda z: cmath.atan(1 / z), "arcsec": lambda z: cmath.acos(1 / z), "arccsc": lambda z: cmath.asin(1 / z),
    # A logarithm with no base written: some fixed multiple of ln, not one that equals ln or log10.
    "log": lambda z: 0.7718 * cmath.log(z), "lg": lambda z: cmath.log(z) / math.log(10), "abs": lambda z: abs(z),
    "factorial": lambda z: math.gamma(z.real + 1), "floor": lambda z: math.floor(z.real),
    "ceil": lambda z: math.ceil(z.real),
}  # fmt: skip


def approximate(node: Node, values: Mapping[str, complex]) -> tuple[complex, float]:
    """The value in double precision for given variables, and the largest magnitude met on the way.

    Raises `Unparsable` when it has none, or one beyond a double. The second number scales the rounding error to expect.
    """
    seen = [0.0]
    try:
        value = _approximate(node, values, seen)
    except (KeyError, OverflowError, ZeroDivisionError, ValueError, TypeError) as error:
        raise Unparsable("no value of a size to look at") from error
    if not cmath.isfinite(value):
        raise Unparsable("no finite value")
    return value, seen[0]


def _approximate(node: Node, values: Mapping[str, complex], seen: list[float]) -> complex:
    value = _value(node, values, seen) + 0j  # no negative zero: it would put -1 below the branch cut of its root
    seen[0] = max(seen[0], abs(value))
    return value


def _value(node: Node, values: Mapping[str, complex], seen: list[float]) -> complex:
    match node:
        case Number(value):
            return complex(float(value))
        case Symbol(name):
            return _CONSTANTS[name] if name in _CONSTANTS else values[name]
        case Negative(inner):
            return -_approximate(inner, values, seen)
        case Percent(inner):
            return _approximate(inner, values, seen) / 100
        case PlusMinus():
            raise Unparsable("± has two readings")
        case Sum(terms):
            return sum((_approximate(t, values, seen) for t in terms), 0j)
        case Product(factors):
            return math.prod((_approximate(f, values, seen) for f in factors), start=complex(1))
        case Quotient(top, bottom):
            return _approximate(top, values, seen) / _approximate(bottom, values, seen)
        case Power(base, exponent):
            return _approximate_power(_approximate(base, values, seen), _approximate(exponent, values, seen))
        case Call(name, arguments):
            return _approximate_call(name, [_approximate(a, values, seen) for a in arguments])


def _approximate_power(base: complex, exponent: complex) -> complex:
    if abs(exponent) > MAX_NUMERIC_EXPONENT:
        raise Unparsable("a power too large to look at")
    return base**exponent


def _approximate_call(name: str, values: list[complex]) -> complex:
    if name == "root":
        value, degree = values
        if value.imag == 0 and value.real < 0 and degree.imag == 0 and degree.real % 2 == 1:
            return -((-value) ** (1 / degree))
        return value ** (1 / degree)
    if name == "binom":
        top, bottom = (v.real for v in values)
        return complex(math.gamma(top + 1) / math.gamma(bottom + 1) / math.gamma(top - bottom + 1))
    return complex(_FUNCTIONS[name](values[0])) if name in _FUNCTIONS else _stand_in(name, values)


def is_known(name: str) -> bool:
    """Return True if a call's function is one of mathematics, and not one of the problem's own, such as f."""
    return name in _FUNCTIONS or name in ("root", "binom")


def _stand_in(name: str, values: list[complex]) -> complex:
    """Some function in place of an unknown one: it has no period, no parity, and is neither additive nor constant."""
    seed = zlib.crc32(name.encode()) % 997 / 997
    place = sum(value * (1 + 0.37 * at) for at, value in enumerate(values))
    return cmath.sin(place * (0.3 + seed) + seed) + (0.21 + seed) * place * place + 1.7 * seed


def variables(node: Node) -> frozenset[str]:
    return frozenset(n.name for n in walk(node) if isinstance(n, Symbol) and n.name not in _CONSTANTS)
