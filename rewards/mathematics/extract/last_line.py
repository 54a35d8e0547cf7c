"""A last line of nothing but mathematics, with the lines above it that state answers in the same way."""

import re

from rewards.mathematics.compare.equivalence import equivalent
from rewards.mathematics.expressions.shapes import Words
from rewards.mathematics.expressions.tree import Unparsable
from rewards.mathematics.extract.values_beside import is_spam
from rewards.mathematics.parse.answer import parse_answer
from rewards.mathematics.text.normalize import normalize

MAX_LINE = 200
_CONNECTIVE = re.compile(
    r"^(?:(?:so|thus|hence|then|therefore|and|\\therefore|=>|∴|→)[ ,:]+"
    r"|(?:综上(?:所述)?|所以|因此|故|即|则|于是|从而|解得|可得|得)[，,： ]*)",
    re.IGNORECASE,
)
_ASSIGNMENT = re.compile(r"^[A-Za-z]\w* ?= ?[^=<>]*$|^[^=<>]*= ?[A-Za-z]$|^[-+]?\d+ [A-Za-z]$|^[-+±]\s*\d[^,;<>≤≥]*$")
_BULLET = re.compile(r"^[-*•]\s+(?=(?:[^A-Za-z\\]|\\\w+)+$)")
_NAMED_BULLET = re.compile(r"^[-*•]\s+(?=\$?[A-Za-z]\w* ?=)")
_NAMED_LINE = re.compile(r"(\\?[A-Za-z]\w*) ?= ?([^=<>≈]+)")
_AMOUNT = re.compile(r"\$?[-+]?\d[\d,.]*\$? [A-Za-z]{2,20}\.?")
_CELL = re.compile(r"\|\s*([^|\n]*?)\s*\|")
"""A row of a table with one column."""


def whole_line(text: str) -> str | None:
    """A last line of nothing but mathematics, with lines of the same shape above it: "x = 41" over "x = 42"."""
    lines = [_CELL.sub(r"\1", line.strip()) for line in text.strip().splitlines()[-12:] if line.strip()]
    bullets = [line for line in lines if _BULLET.match(line)]
    if len(bullets) > 1 and bullets[-1] == lines[-1]:
        return ", ".join(dict.fromkeys(_BULLET.sub("", line) for line in bullets))
    lines = [_CONNECTIVE.sub("", _NAMED_BULLET.sub("", line)) for line in lines]
    alternatives = len(lines) > 1 and _NAMED_LINE.fullmatch(lines[-1]) and _is_parallel(lines[-2], lines[-1])
    if len(lines) > 1 and lines[-1] != lines[-2] and _is_one_amount(lines[-2], lines[-1]):
        return f"{lines[-2]}, {lines[-1]}"  # 6 apples, and below it 7 apples
    if not lines or not (alternatives or _is_mathematics(lines[-1])):
        return None
    alike = [lines[-1]]
    for line in reversed(lines[:-1]):
        if not _is_parallel(line, lines[-1]):
            break
        alike.insert(0, line)
    # A name and its value alone is left to `_last_value`.
    return None if len(alike) == 1 and _ASSIGNMENT.match(alike[0]) else ", ".join(dict.fromkeys(alike))


def _is_parallel(line: str, last: str) -> bool:
    """Return True if two lines state answers in the same way. Of two values of one name, equal ones are the work."""
    named = _NAMED_LINE.fullmatch(line), _NAMED_LINE.fullmatch(last)
    if named[0] is not None and named[1] is not None and named[0][1] == named[1][1]:
        try:
            return not equivalent(named[0][2], named[1][2])
        except (Unparsable, RecursionError):
            return True
    if _outline(line) == _outline(last) and len(re.findall(r"\d+", line)) < 2:
        return True
    return _is_bare_value(line) and _is_bare_value(last) and not _are_equal(line, last)


def _is_one_amount(line: str, last: str) -> bool:
    """Return True if two lines are one number of the same things each."""
    return _AMOUNT.fullmatch(line) is not None and _outline(line) == _outline(last)


def _is_bare_value(line: str) -> bool:
    return not re.search(r"[=<>≤≥≈]|\\(?:le|ge|ne|lt|gt|approx|to)\b", line) and _is_mathematics(line)


def _are_equal(line: str, last: str) -> bool:
    try:
        return equivalent(line, last)
    except (Unparsable, RecursionError):
        return True


def _outline(line: str) -> str:
    return re.sub(r"[-+]?\d+(?:[.,]\d+)*", "#", line)


def _is_mathematics(line: str) -> bool:
    if len(line) > MAX_LINE or not re.search(r"[\d=(\\]", line) or line[-1:] == "?" or is_spam(line):
        return False
    if "$" in line or "\\boxed" in line or re.search(r"(?<![\\A-Za-z{])(?!ln|pi|or|in\b)[A-Za-z]{2,}", line):
        return False
    if re.search(r"[-+*/]", line) and re.search(r"(?<![<>≤≥!])=", line):
        return False  # a step of the work, whose last side `_last_value` takes
    try:
        return not isinstance(parse_answer(normalize(line)), Words)
    except (Unparsable, RecursionError):
        return False
