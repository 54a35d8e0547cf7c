"""Reads the literals of numbers: whole, decimal, repeating and mixed. Where two readings are possible it refuses."""

import re
from fractions import Fraction

from rewards.mathematics.expressions.tree import Number, Unparsable
from rewards.mathematics.text.normalize import MAX_DIGITS

_NUMBER = re.compile(r"(\d+(?: \d{3})+(?![\d.])|\d+)?(\.\d+|\.(?= ?[/)]| ?$))?(?:[eE]([+-]?\d{1,3})(?![\dA-Za-z]))?")
_MIXED = tuple(
    re.compile(pattern)
    for pattern in (
        r" (\d{1,9}) ?/ ?(\d{1,9})(?![\d.])",
        r" ?\\frac ?\{ ?(\d{1,9}) ?\} ?\{ ?(\d{1,9}) ?\}",
        r" ?\\frac ?(\d) ?(\d)(?!\d)",
    )
)
_REPEATING = re.compile(r"(\d{0,20})(\.\d{0,20})\\overline ?\{ ?(\d{1,20}) ?\}")
_DOTTED = re.compile(r"(\d{0,20})(\.\d{0,20}?)\\dot ?(?:\{ ?(\d) ?\}|(\d))(?:(\d{0,20}?)\\dot ?(?:\{ ?(\d) ?\}|(\d)))?")


def read_number(text: str, at: int) -> tuple[Number, int]:
    """The number that begins at a position, without a fraction beside it, and where it ends."""
    if (match := _REPEATING.match(text, at)) is not None:
        return Number(_repeating(match[1], match[2][1:], match[3]), notation="repeating"), match.end()
    if (match := _DOTTED.match(text, at)) is not None:
        cycle = (match[3] or match[4]) + (match[5] or "") + (match[6] or match[7] or "")
        return Number(_repeating(match[1], match[2][1:], cycle), notation="repeating"), match.end()
    match = _NUMBER.match(text, at)
    if match is None or not (match[1] or (match[2] and len(match[2]) > 1)):
        raise Unparsable("not a number")
    whole, fraction = (match[1] or "").replace(" ", ""), match[2] or ""
    if len(whole) + len(fraction) > MAX_DIGITS or text.startswith(("_", " _"), match.end()):
        raise Unparsable("too many digits, or digits with a subscript")
    if len(fraction) > 1 or match[3]:
        return _decimal(whole, fraction, int(match[3] or 0)), match.end()
    return Number(Fraction(int(whole))), match.end()


def read_mixed(whole: int, text: str, at: int) -> tuple[Number, int] | None:
    """``1 4/5`` and ``1\\frac{4}{5}`` from their fraction on; None when none follows."""
    match = next((m for pattern in _MIXED if (m := pattern.match(text, at)) is not None), None)
    if match is None:
        return None
    top, bottom = int(match[1]), int(match[2])
    if not 0 < top < bottom or re.match(r" ?\^", text[match.end() :]):
        raise Unparsable("a whole number beside a fraction that is not proper")
    if match.re is _MIXED[0] and re.match(r" ?[A-Za-z(\[\\π]", text[match.end() :]):
        raise Unparsable("1 1/2x has two readings")
    return Number(Fraction(whole * bottom + top, bottom), notation="mixed"), match.end()


def _decimal(whole: str, fraction: str, exponent: int) -> Number:
    """``12.50`` keeps how many digits it shows: a rounded number stands for another only if it shows enough of them."""
    places = len(fraction) - 1 if fraction else 0
    unscaled = int((whole + fraction[1:]) or "0")
    shown = str(unscaled).rstrip("0") if fraction else ""
    value = Fraction(unscaled, 10**places) * Fraction(10) ** exponent
    return Number(value, digits=len(shown), places=places - exponent, notation="scientific" if exponent else "")


def _repeating(whole: str, fixed: str, cycle: str) -> Fraction:
    base = Fraction(int((whole + fixed) or "0"), 10 ** len(fixed))
    return base + Fraction(int(cycle), (10 ** len(cycle) - 1) * 10 ** len(fixed))
