"""Figures for the numbers that a text without any spells out: "She has forty-two apples" is read as its 42."""

import re

from rewards.mathematics.text.number_words import NUMBER_WORDS, TENS, number_in_words

MAX_CHARS = 2_000
"""Longer texts are left as they are: none tells its work in words alone."""
_WORD = "|".join(sorted([*NUMBER_WORDS, *TENS, "hundred", "thousand", "million"], key=len, reverse=True))
_RUN = re.compile(rf"\b(?:{_WORD})(?:(?:[ -]| and )(?:{_WORD}))*\b", re.IGNORECASE)
_VAGUE = frozenset(("one", "zero"))
"""Words that are mostly no numbers: no one, one of them."""


def with_figures(text: str) -> str:
    """The text with figures, or as it is if it has figures of its own."""
    if len(text) > MAX_CHARS or any(c.isdecimal() for c in text):
        return text
    return _RUN.sub(_figures, text)


def _figures(match: re.Match[str]) -> str:
    words = match[0].lower().replace("-", " ")
    number = None if words in _VAGUE else number_in_words(words)
    return match[0] if number is None else str(number)
