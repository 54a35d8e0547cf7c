"""Reads ``n = 4k + 1`` as the congruence that it is: n ≡ 1 (mod 4)."""

from fractions import Fraction

from rewards.mathematics.expressions.evaluate import rational, variables
from rewards.mathematics.expressions.shapes import Answer, Congruence, Named, Scalar
from rewards.mathematics.expressions.tree import Number, Product, Sum, Symbol
from rewards.mathematics.values.equality import same_value, substitute

_WHOLE = frozenset("jklmnqrst")
"""Letters that stand for any whole number."""


def as_congruence(answer: Answer) -> Congruence | None:
    """The congruence, or None for an answer that is none."""
    if isinstance(answer, Congruence):
        return answer
    name, value = (answer.name, answer.value) if isinstance(answer, Named) else ("", answer)
    if not isinstance(value, Scalar) or value.unit or len(name) > 1:
        return None
    letters = variables(value.node)
    if len(letters) != 1 or not letters <= _WHOLE - {name}:
        return None
    (letter,) = letters
    first, second = (rational(substitute(value.node, {letter: Number(Fraction(at))})) for at in (0, 1))
    if first is None or second is None or first.denominator != 1 or second.denominator != 1:
        return None
    step = second - first
    line = Sum((Product((Number(step), Symbol(letter))), Number(first)))
    if abs(step) < 2 or not same_value(value.node, line):
        return None
    return Congruence(name, int(first % abs(step)), int(abs(step)))
