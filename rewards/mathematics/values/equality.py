"""Decides if two expressions have the same value: by exact rationals, then double precision, then a proof.

Double precision only ever turns answers away: agreement of digits is never enough.
"""

import contextlib
from collections.abc import Sequence
from functools import lru_cache

from rewards.mathematics.expressions.evaluate import approximate, rational, variables
from rewards.mathematics.expressions.tree import Call, Negative, Node, Number, Power, Symbol, Unparsable, rebuild, walk
from rewards.mathematics.values.rounding import decimal, rounds, rounds_rational
from rewards.mathematics.values.size import check_size
from rewards.rules import STRICT, Rules

_PROBES = (
    (0.7390851, 1.2020569, 0.5671432, 1.3247179),
    (-1.2824271, 0.9159655, -0.6434105, -1.6066951),
    (0.5772156 + 0.3036630j, -0.2614972 + 0.8346268j, 1.0303201 - 0.4142135j, 0.3532363 + 1.1319882j),
)
_REAL_PROBES = (
    (0.7390851, 0.2020569, 0.5671432, 0.3247179), (2.2824271, 3.9159655, 1.6434105, 5.6066951),
    (113.7, 257.3, 71.9, 19.3),
    (-0.5390851, 0.2420569, -0.3671432, 0.7247179), (0.5390851, -0.2420569, 0.3671432, -0.7247179),
    (-2.2824271, -3.1159655, -1.3434105, -4.6066951), (-113.7, 257.3, -71.9, 19.3), (-0.31, -0.47, -0.83, -0.59),
)  # fmt: skip
"""Points at which roots and logarithms are compared: inside and outside the unit interval, of every sign."""
_WHOLE_PROBES = ((11, 4, 7, 5), (13, 5, 3, 2), (9, 7, 2, 6), (4, 11, 6, 13), (3, 9, 13, 21), (2, 7, 12, 17))
_BRANCHED = frozenset(["root", "ln", "lg", "log", "abs", "arcsin", "arccos", "arctan", "arccot", "arcsec", "arccsc"])
_COUNTING = frozenset(("factorial", "binom"))


@lru_cache(8192)
def same_value(left: Node, right: Node, rules: Rules = STRICT) -> bool:
    """Return True if two expressions are equal for all values of their variables at which both are defined.

    Raises `Unparsable` if they have no value.
    """
    if left == right:
        return True
    ends = _infinity(left), _infinity(right)
    if any(ends):
        return ends[0] == ends[1]
    exact = rational(left), rational(right)
    if exact[0] is not None and exact[1] is not None:
        return exact[0] == exact[1] or rounds_rational(left, exact[1], rules) or rounds_rational(right, exact[0], rules)
    check_size(left)
    check_size(right)
    names = sorted(variables(left) | variables(right))
    return _same_function(left, right, names, rules) if names else _same_constant(left, right, rules)


def _infinity(node: Node) -> int:
    """+1 or -1 for ±∞ alone, else 0."""
    if isinstance(node, Negative):
        return -_infinity(node.inner)
    return 1 if node == Symbol("∞") else 0


def _same_constant(left: Node, right: Node, rules: Rules) -> bool:
    near = close(left, right, {})
    if not near or decimal(left) or decimal(right):
        return rounds(left, right, rules) or rounds(right, left, rules)
    return _proved(left, right, "")


def _same_function(left: Node, right: Node, names: Sequence[str], rules: Rules) -> bool:
    domain = _domain(left, right)
    if domain == "whole":
        counted = _whole_verdicts(left, right, names)
        return len(counted) > 1 and all(counted) and _proved(left, right, domain)
    if domain == "real" and (verdicts := _real_verdicts(left, right, names, rules)):
        return all(verdicts) and _proved(left, right, domain)
    return all(close(left, right, p) for p in _points(names, _PROBES)) and _proved(left, right, "")


def _domain(left: Node, right: Node) -> str:
    """The values that variables can have: whole numbers under a factorial, real ones under a root or a logarithm."""
    nodes = [*walk(left), *walk(right)]
    if any(isinstance(n, Call) and n.name in _COUNTING and variables(n) for n in nodes):
        return "whole"
    branched = any(
        (isinstance(n, Call) and n.name in _BRANCHED) or (isinstance(n, Power) and not _is_whole(n.exponent))
        for n in nodes
    )
    return "real" if branched else ""


def _is_whole(node: Node) -> bool:
    value = rational(node)
    return value is not None and value.denominator == 1


def _whole_verdicts(left: Node, right: Node, names: Sequence[str]) -> list[bool]:
    """The agreement of the two at each point at which both count something: 4 things cannot be chosen from 3."""
    verdicts = list[bool]()
    for point in _points(names, _WHOLE_PROBES):
        with contextlib.suppress(Unparsable):
            verdicts.append(close(left, right, point))
    return verdicts


def _real_verdicts(left: Node, right: Node, names: Sequence[str], rules: Rules) -> list[bool]:
    """The agreement of the two at each point at which both are real; none for functions that never are."""
    probes = _REAL_PROBES[:3] if rules.positive else _REAL_PROBES
    verdicts = list[bool]()
    for point in _points(names, probes):
        with contextlib.suppress(Unparsable):
            if all(_is_real(part, point) for side in (left, right) for part in walk(side)):
                verdicts.append(close(left, right, point))
    return verdicts


def _is_real(part: Node, point: dict[str, complex]) -> bool:
    """Return True if a part of an expression is real: the root of ab may be where those of a and b are not."""
    if not isinstance(part, Call | Power):
        return True
    value = approximate(part, point)[0]
    return abs(value.imag) <= 1e-12 * abs(value)


def _points(names: Sequence[str], probes: Sequence[Sequence[complex]]) -> list[dict[str, complex]]:
    return [
        {name: complex(probe[i % len(probe)]) * (1 + i // len(probe)) for i, name in enumerate(names)}
        for probe in probes
    ]


def close(left: Node, right: Node, point: dict[str, complex]) -> bool:
    """Return True if two expressions agree to nine digits at a point. Only disagreement is evidence."""
    a, scale = approximate(left, point)
    b, other_scale = approximate(right, point)
    return abs(a - b) <= 1e-9 * max(scale, other_scale, 1e-300)


def _proved(left: Node, right: Node, domain: str) -> bool:
    from rewards.mathematics.values.symbolic import (
        proved_equal,  # sympy takes half a second to load, and most answers never need it
    )

    return proved_equal(left, right, domain)


def vanishes(constant: Node) -> bool:
    """Return True if a constant is zero, as far as double precision tells."""
    value, scale = approximate(constant, {})
    return abs(value) <= 1e-9 * scale


def substitute(node: Node, values: dict[str, Number]) -> Node:
    """The expression with numbers in place of its variables."""
    if isinstance(node, Symbol):
        return values.get(node.name, node)
    return rebuild(node, lambda child: substitute(child, values))
