"""Angles in degrees where the reference is in radians: 60° answers π/3, unless the question wants it otherwise.

As numbers the two are equal (a degree is π/180), but an area of π is not 180°, and "convert 60° to radians" is not
answered by 60°. So a question has to speak of angles, and of neither radians nor the answer's own number.
"""

import re
from fractions import Fraction

from rewards.mathematics.expressions.evaluate import rational, variables
from rewards.mathematics.expressions.shapes import Scalar
from rewards.mathematics.expressions.tree import Node, Number, Product, Quotient, Symbol, walk

_PI = Symbol("π")
_DEGREE = frozenset({"degree"})
_FUNCTION = r"(?:arc)?(?:sin|cos|tan|cot|sec|csc)(?![a-z])"
_ANGLE = re.compile(
    rf"\bangles?\b|\\angle|theta|θ|\\arg\b|\bargument\b|\\{_FUNCTION}|\b{_FUNCTION}|\bpolar\b|\brotat|"
    r"\bdegrees?\b|\^ ?\{? ?\\circ|°",
    re.IGNORECASE,
)
_OTHER_QUANTITY = re.compile(
    r"\bradians?\b|\barea|\bvolume|\bcircumference|\bperimeter|\blength|\bdistance|\bspeed|\bin terms of\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def in_radians(reference: Scalar, answer: Scalar, question: str) -> Node | None:
    """Return an answer in degrees as a multiple of π; None unless the reference is one and the question leaves it open.

    Example: ``60^\\circ`` is ``60 * π / 180`` for the reference ``\\frac{\\pi}{3}``.
    """
    degrees = rational(answer.node)
    if answer.unit != _DEGREE or reference.unit or degrees is None:
        return None
    if _PI not in walk(reference.node) or variables(reference.node):
        return None
    if question and not _leaves_open(question, degrees):
        return None
    return Product((answer.node, Quotient(_PI, Number(Fraction(180)))))


def _leaves_open(question: str, degrees: Fraction) -> bool:
    given = {Fraction(number) for number in _NUMBER.findall(question)}
    return (
        _ANGLE.search(question) is not None and _OTHER_QUANTITY.search(question) is None and abs(degrees) not in given
    )
