"""Reads one value with its unit, or the two values of an expression with ±."""

import re
from fractions import Fraction

from rewards.mathematics.expressions.shapes import Items, Scalar
from rewards.mathematics.expressions.tree import Call, Node, Number, Power, Product, Unparsable, signs, walk
from rewards.mathematics.parse.expression import parse_expression
from rewards.mathematics.parse.functions import ANGLE_FUNCTIONS
from rewards.mathematics.text.unit import split_unit

_FILLER_WORDS = (
    r"(?:approximately|approx\.?|about|around|roughly|exactly|equal to|equals|simply|just|precisely|a total of|"
    r"there (?:is|are)|"
    r"(?:the |a )?(?:number|value|answer|result|total) (?:is|of)|in total)"
)
FILLER = re.compile(rf"^(?:{_FILLER_WORDS} |\\text\{{ ?{_FILLER_WORDS} ?\}} ?)+", re.IGNORECASE)
_MINUS = re.compile(r"^(?:\\text\{ ?)?(?:negative|minus) ?\}? ?(?=[\d\\])", re.IGNORECASE)
COMMA_NUMBER = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_COMMA_AT_ALL = re.compile(r"(?<=\d),(?=\d)")
_ORDINAL = re.compile(r"(?<=\d) ?(?:\^ ?\{? ?)?(?:\\text\{ ?)?(?:st|nd|rd|th)(?: ?\})*$")


def parse_value(text: str) -> Node:
    """One value, without its unit."""
    scalar = parse_scalar(text)
    if not isinstance(scalar, Scalar):
        raise Unparsable("± has two readings here")
    return scalar.node


def parse_scalar(text: str) -> Scalar | Items:
    """One value with its unit, or the two values of an expression with ±."""
    core, unit, scale = split_unit(_MINUS.sub("-", _ORDINAL.sub("", FILLER.sub("", text))))
    node = parse_expression(COMMA_NUMBER.sub(_joined, core) if _COMMA_AT_ALL.search(core) else core)
    if "degree" in unit and any(isinstance(n, Call) and n.name in ANGLE_FUNCTIONS for n in walk(node)):
        raise Unparsable("a function of degrees")
    readings = signs(node)
    if scale:
        readings = tuple(Product((r, Power(Number(Fraction(10)), Number(Fraction(scale))))) for r in readings)
    if len(readings) == 1:
        return Scalar(readings[0], unit)
    return Items("", "", tuple(Scalar(r, unit) for r in readings))


def _joined(match: re.Match[str]) -> str:
    return match[0].replace(",", "")
