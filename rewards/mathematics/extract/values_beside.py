"""Values right beside the last one of a text, which make a hedge of it: "$\\pi$ or $2\\pi$", "x=4 x=3"."""

import re

from rewards.mathematics.expressions.evaluate import variables
from rewards.mathematics.expressions.nodes import COMPOUND
from rewards.mathematics.expressions.tree import Call, Number, Unparsable, walk
from rewards.mathematics.parse.scalar import parse_value
from rewards.mathematics.text.formulas import inside
from rewards.mathematics.text.normalize import normalize

_SEPARATOR = r"(?:,?\s*or\b|/|\||;|,?\s*(?:maybe|perhaps)\b)"
_VALUE = r"(?:\*\*|\$+|\\[(\[]|\\(?:pi|sqrt|frac|infty|theta)\b|π|∞)"
_NEXT = re.compile(rf"[*$)\]\\]*(?:[ \t]*{_SEPARATOR}\s*{_VALUE}|\s*\*\*(?:\\?[A-Za-z]+|[π∞])\*\*)")
"""Another value behind one: "2\\pi or \\pi"."""
_LETTERS = re.compile(r"\*\*(?:\\[A-Za-z]+(?:\{[^{}]*\})*|[A-Za-zπ∞])\*\*[\s,;/|&-]*(?:or |and )?$")
"""A bold value without figures right before another."""
_BEFORE = re.compile(r"(\$\$?[^$\n]{1,100}\$\$?)[ \t]+$")
_BEHIND = re.compile(r"[ \t]+(\$\$?[^$\n]{1,100}\$\$?)")
_TWICE = re.compile(r"(?<![\w\\])([A-Za-z]) ?= ?([^\s=,;]{1,40})[ \t]+\1 ?= ?([^\s=]{1,40}?)[.\s]*$")
"""One name with two values on a line."""
_NUMBERED = re.compile(r"\W*(?:(?:[A-Za-z]+ )?#?\d{1,2}|[a-hA-H]|[ivxIVX]{1,4})\s?[.):]\s*(?=\S)")
_GUESS = re.compile(r"[-+$]?\d[\d,.:]*%?[;|?!]*|[;|]")


def is_followed(text: str, end: int) -> bool:
    """Return True if another value stands behind this place as an alternative."""
    return _NEXT.match(text, end - 1 if text[end - 1 : end] in (";", "/", "|") else end) is not None


def follows_letters(text: str, start: int) -> bool:
    """Return True if a bold value without figures stands right before this place."""
    return _LETTERS.search(text, max(0, start - 60), start) is not None


def is_named_twice(text: str) -> bool:
    """Return True if a text ends with two values of one name."""
    match = _TWICE.search(text, max(0, len(text) - 200))
    return match is not None and match[2] != match[3]


def with_beside(text: str, match: re.Match[str]) -> str:
    """The contents of a formula, with those of the formula right before or behind it on its line."""
    before, behind = _BEFORE.search(text, max(0, match.start() - 120), match.start()), _BEHIND.match(text, match.end())
    around = (before and before[1], match[0], behind and behind[1])
    return ", ".join(each.strip("$") for each in around if each) if before or behind else inside(match)


def is_option(text: str, at: int) -> bool:
    """Return True if the last two lines only count possibilities: "Option 1: 41" over "Option 2: 42"."""
    lines = [line.strip() for line in text[: at + 20].strip().splitlines()[-4:] if line.strip()]
    labels = [_NUMBERED.match(line) for line in lines[-2:]]
    return (
        len(labels) > 1
        and all(labels)
        and len({re.sub(r"\w+$|\w+(?=\W*$)", "#", label[0]) for label in labels if label}) == 1
    )


def is_spam(text: str) -> bool:
    """Return True if a text is nothing but several numbers: the last of many guesses is no answer."""
    numbers = text.split()
    return all(map(_GUESS.fullmatch, numbers)) and len(set(numbers)) > 1


def is_left_to_solve(run: str) -> bool:
    """Return True for an equation whose left side is more than a name: x + 1 = 42 does not say that x is 42."""
    left = re.split(r"[=≈]", run)[-2:-1]
    try:
        node = parse_value(normalize(left[0])) if left else None
    except (Unparsable, RecursionError):
        return False
    if node is None or not variables(node):
        return False
    return isinstance(node, COMPOUND) and any(isinstance(n, Number) for n in walk(node)) and not isinstance(node, Call)
