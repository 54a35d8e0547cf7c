"""A stated answer with its place in the text, and what may stand between statements that belong together."""

import re
from dataclasses import dataclass
from typing import Literal

from rewards.mathematics.text.normalize import words


@dataclass(frozen=True, slots=True)
class Statement:
    """An answer and the span of the text that states it."""

    text: str
    start: int
    end: int
    kind: Literal["box", "heading", "tag", "phrase", "plain"]
    name: str = ""
    """The name of the value, as in ``x = \\boxed{2}``. It counts among several."""
    after: str = ""
    """A sign that follows and may belong to it: a percent sign behind a box."""
    bare: str = ""
    """The answer without a word behind it, which the question may have asked for: 8 for 8 dozen."""


MAX_GAP = 120
MAX_WORDS = 4
_DRESS = re.compile(
    r"\\(?:text(?:bf|it|rm)?|mathrm|mbox)\s*\{([^{}]*)\}|\\(?:quad|qquad|left|right|displaystyle|newline|par|"
    r"hspace\{[^}]*\})|\\[,;:!\[\]() \\]"
    r"|</?[a-z_]{1,20}>|[$&*_#>~`|]"
)
_ENUMERATION = re.compile(
    r"\(\s*(?:[a-h]|[ivx]{1,4}|\d)\s*\)|(?:^|\s)(?:[a-h]|[ivx]{1,4}|\d)[.)](?=\s|$)|\bpart \w\b"
    r"|\b(?:answer|option|solution|case|guess|candidate|possibility|choice|value|root)s? ?#? ?\d\b"
    r"|\b(?:method|approach|way) ?#? ?(?:\d|[a-c]|one|two)\b(?: (?:gives|yields|says|leads to))?",
    re.IGNORECASE,
)
_NAME = re.compile(r"\\?[A-Za-z][a-z]?(?:_\{?\w+\}?)?(?:\([a-z\d]\))?\s*(?:=|∈|\\in\b)")
_NAMED = re.compile(r"(?:^|[\s$(,])([A-Za-z](?:_\{?\w\}?)?) ?= ?$")
_OPERATOR = re.compile(r"[\s$]*(?:[-+*/=<>:^≠]|\\(?:cdot|times|neq?|leq?|geq?|lt|gt)\b)[\s$]*")
_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")
_HEDGES = words(
    "or and maybe perhaps possibly also could might may be it alternatively otherwise else either another "
    "possibility though although even as well plausible likely guess oder ou y et und other would can but 或 "
    "或者 和 以及 及 与"
)
_SUPERSEDE = words(
    "then now so thus hence therefore final finally actually wait correction correcting corrected instead "
    "rather which gives becomes simplifies implies check checking verify again total no sorry oops not wrong "
    "reconsidering because since where find get let"
)
_ALTERNATIVE = re.compile(r"\b(?:if not|or else|otherwise|alternatively|else|unless)\b", re.IGNORECASE)
"""Words after which a second answer stands beside the first, whatever else is said."""


def belong_together(between: str) -> bool:
    """Return True if two statements with this between them are one: "43, or perhaps 42" is no answer of 42.

    Words by which the second takes the place of the first set them apart.
    """
    if len(between) > MAX_GAP:
        return False
    if _OPERATOR.fullmatch(between):
        return True  # \\boxed{17} + \\boxed{18}
    if _ALTERNATIVE.search(between):
        return True
    plain = _ENUMERATION.sub(" ", _DRESS.sub(lambda m: f" {m[1] or ''} ", _NAME.sub(" ", between)))
    if re.search(r"[\d=+]", plain):
        return False
    between_words = [w.lower() for w in _WORD.findall(plain)]
    if _SUPERSEDE.intersection(between_words):
        return False
    return sum(w not in _HEDGES for w in between_words) <= MAX_WORDS


def name_before(text: str, start: int) -> str:
    """The name that stands right before a box: ``x`` in ``x = \\boxed{2}``."""
    match = _NAMED.search(text, max(0, start - 12), start)
    return "" if match is None else match[1]
