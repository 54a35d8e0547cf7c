"""The only door to sympy: builds an expression from our tree, node by node, and proves that two are equal.

No text reaches sympy (its parsers call ``eval``), no Float is made (its comparison has an absolute tolerance), and
equal means proved equal: agreement of digits is never enough, or ``5 + 1/2004!`` would pass for 5.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any, cast

import sympy

from rewards.mathematics.expressions.evaluate import rational
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
)

MAX_DEGREE = 64
"""The largest degree of a root, and of an algebraic number whose minimal polynomial is looked for: sympy would compute
3**10**30 on its way to that of 3**(1/10**30)."""

# sympy ships no complete annotations; everything of it stays behind this one name.
_s = cast(Any, sympy)
_CONSTANTS: dict[str, Any] = {"π": _s.pi, "e": _s.E, "i": _s.I}
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "sin": _s.sin, "cos": _s.cos, "tan": _s.tan, "cot": _s.cot, "sec": _s.sec, "csc": _s.csc, "sinh": _s.sinh,
    "cosh": _s.cosh, "tanh": _s.tanh, "coth": _s.coth, "sech": _s.sech, "csch": _s.csch, "arcsin": _s.asin,
    "arccos": _s.acos, "arctan": _s.atan, "arccot": _s.acot, "arcsec": _s.asec, "arccsc": _s.acsc, "exp": _s.exp,
    "ln": _s.log, "factorial": _s.factorial, "binom": _s.binomial, "abs": _s.Abs, "floor": _s.floor, "ceil": _s.ceiling,
    "lg": lambda x: _s.log(x) / _s.log(10),
    "log": lambda x: _s.Symbol("log base", positive=True) * _s.log(x),
}  # fmt: skip
_INVERSE = (_s.asin, _s.acos, _s.atan, _s.acot, _s.asec, _s.acsc)
_DOMAINS: dict[str, dict[str, bool]] = {
    "": {},
    "real": {"positive": True},
    "whole": {"integer": True, "nonnegative": True},
}


def proved_equal(left: Node, right: Node, domain: str = "") -> bool:
    """Return True if the difference of two expressions is provably zero. Callers bound both with `size.check_size`.

    ``domain`` says what the variables are: ``real`` (then positive: the caller has looked at the other signs),
    ``whole`` (not negative) or any complex numbers.
    """
    try:
        return _is_zero(expression(left, domain) - expression(right, domain), domain)
    except Unparsable:
        raise
    except (ArithmeticError, AttributeError, NotImplementedError, TypeError, ValueError, RecursionError) as error:
        # sympy raises these, and its own subclasses of them, on expressions it cannot handle.
        raise Unparsable("sympy cannot compare these") from error


def digits_of(node: Node) -> Fraction | None:
    """A real constant to forty digits, as a fraction; None when it is not real or its digits do not settle."""
    try:
        value = _s.N(expression(node), 40)
    except (ArithmeticError, AttributeError, NotImplementedError, TypeError, ValueError) as error:
        raise Unparsable("sympy cannot evaluate this") from error
    if not value.is_Float or value._prec < 100:
        return None
    exact = _s.Rational(value)
    return Fraction(int(exact.p), int(exact.q))


@lru_cache(4096)
def expression(node: Node, domain: str = "") -> Any:
    """The tree as a sympy expression. Raises `Unparsable` when it has no finite value."""
    value = rational(node)
    built = _build(node, domain) if value is None else _s.Rational(value.numerator, value.denominator)
    if built.has(_s.oo, _s.zoo, _s.nan, _s.S.NegativeInfinity):
        raise Unparsable("no finite value")
    return built


def _build(node: Node, domain: str) -> Any:
    match node:
        case Number(value):
            return _s.Rational(value.numerator, value.denominator)
        case Symbol(name):
            return _CONSTANTS[name] if name in _CONSTANTS else _s.Symbol(name, **_DOMAINS[domain])
        case Negative(inner):
            return -expression(inner, domain)
        case Percent(inner):
            return expression(inner, domain) / 100
        case PlusMinus():
            raise Unparsable("± has two readings")
        case Sum(terms):
            return _s.Add(*[expression(t, domain) for t in terms])
        case Product(factors):
            return _s.Mul(*[expression(f, domain) for f in factors])
        case Quotient(top, bottom):
            return expression(top, domain) / expression(bottom, domain)
        case Power(base, exponent):
            return expression(base, domain) ** expression(exponent, domain)
        case Call("root", (radicand, degree)):
            return _root(expression(radicand, domain), expression(degree, domain))
        case Call(name, arguments):
            function = _FUNCTIONS[name] if name in _FUNCTIONS else _s.Function(name)
            return function(*[expression(a, domain) for a in arguments])


def _root(radicand: Any, degree: Any) -> Any:
    """The real root where there is one: the cube root of -8 is -2."""
    if degree.is_odd and radicand.is_negative:
        return -((-radicand) ** (1 / degree))
    return radicand ** (1 / degree)


def _is_zero(difference: Any, domain: str) -> bool:
    """Try from the cheapest proof on. sympy's ``==`` is structural, so each of these is exact."""
    if difference == 0:
        return True
    if domain == "whole":
        return bool(_s.combsimp(difference) == 0 or _s.gammasimp(difference.rewrite(_s.gamma)) == 0)
    if difference.free_symbols and difference.is_rational_function():
        joined = _s.together(difference)
        # sympy's `cancel` alone may leave a sum that nobody evaluated, such as 648 - 648.
        return bool(_s.expand(_s.fraction(joined)[0]) == 0 or _s.cancel(joined) == 0)
    if _s.expand(difference) == 0 or (domain == "real" and _s.expand_log(difference) == 0):
        return True
    degrees = [int(power.exp.q) for power in difference.atoms(_s.Pow) if power.exp.is_Rational]
    if max(degrees, default=1) > MAX_DEGREE:
        return False
    if _s.radsimp(difference) == 0 or _s.simplify(difference) == 0:
        return True
    if difference.free_symbols:
        return domain == "real" and _is_constant_zero(difference)
    algebraic = difference.is_algebraic and math.prod(degrees) <= MAX_DEGREE
    return bool(algebraic and _is_algebraic_zero(difference))


def _is_constant_zero(difference: Any) -> bool:
    """Return True if a function of one variable has derivative 0, and is 0 at a point: arcsin x + arccos x - π/2."""
    (unknown, *others) = difference.free_symbols
    if others or not difference.has(*_INVERSE) or _s.simplify(_s.diff(difference, unknown)) != 0:
        return False
    return any(_s.simplify(difference.subs(unknown, point)) == 0 for point in (_s.Rational(1, 2), 1, 0))


def _is_algebraic_zero(difference: Any) -> bool:
    unknown = _s.Symbol("x")
    return bool(_s.minimal_polynomial(difference, unknown) == unknown)
