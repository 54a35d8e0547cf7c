"""Converts an answer's measure into the reference's: 180 minutes are 3 hours.

A quantity of the question in another measure is no work done, so measures and numbers that the question has are not
converted; and where it asks for a measure, only that one will do (`asked_unit`).
"""

import re
from fractions import Fraction

from rewards.mathematics.compare.asked_unit import mentioned
from rewards.mathematics.expressions.evaluate import rational
from rewards.mathematics.expressions.shapes import Scalar
from rewards.mathematics.expressions.tree import Node, Number, Product

_SCALES: tuple[dict[str, Fraction], ...] = (
    {"second": Fraction(1), "minute": Fraction(60), "hour": Fraction(3_600), "day": Fraction(86_400)}
    | {"week": Fraction(604_800)},
    {"millimeter": Fraction(1), "centimeter": Fraction(10), "decimeter": Fraction(100), "meter": Fraction(1_000)}
    | {"kilometer": Fraction(1_000_000)},
    {"inch": Fraction(1), "foot": Fraction(12), "yard": Fraction(36), "mile": Fraction(63_360)},
    {"milligram": Fraction(1), "gram": Fraction(1_000), "kilogram": Fraction(1_000_000)},
    {"ounce": Fraction(1), "pound": Fraction(16)},
    {"milliliter": Fraction(1), "liter": Fraction(1_000)},
    {"cent": Fraction(1), "dollar": Fraction(100)},
)
"""Measures of one kind, and how many of the smallest of them each is."""
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def converted(reference: Scalar, answer: Scalar, question: str) -> Node | None:
    """The answer's number in the reference's measure; None if the two are no measures of one kind."""
    units = reference.unit, answer.unit
    if any(len(unit) != 1 for unit in units):
        return None
    (expected,), (given,) = units
    scale = next((s for s in _SCALES if expected in s and given in s), None)
    value = rational(answer.node)
    if scale is None or value is None or given in mentioned(question) or value in _numbers(question):
        return None
    return Product((answer.node, Number(scale[given] / scale[expected])))


def _numbers(question: str) -> set[Fraction]:
    return {Fraction(n.replace(",", "")) for n in _NUMBER.findall(question)}
