"""Boxes: ``\\boxed{42}`` and what models and their templates write for it."""

import re
from collections.abc import Iterator

from rewards.retraction import DENIED, is_taken_back
from rewards.statement import Statement, name_before

MAX_BOXES = 100
"""Boxes looked at, from the end."""
MAX_BOX = 8_000
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)|\\(?:boxed|fbox)\s*(?P<bare>[-+]?[\w./]{1,40})|<\|begin_of_box\|>")
_LABEL = re.compile(r"^\\text ?\{ ?(?:the |our )?(?:final |correct )?answers? (?:is|are):? ?\} ?", re.IGNORECASE)
_AFTER = re.compile(r"[\s$)]{0,4}(?:\\?%|percent\b|per cent\b)", re.IGNORECASE)
_PART_BEFORE = re.compile(
    r"(?:\d\.?|(?<![\w)\]}])\.|[=$(\[{] ?[-−]|\\[dt]?frac\s*\{|\\frac\s*\{[^{}\n]{1,40}\}\s*\{|"
    r"\\sqrt\s*(?:\[[^\]\n]{1,5}\])?\{|[*^/])$"
)
_PART_AFTER = re.compile(
    r"\d|\.\d|(?:\{,\}|,)\d{3}(?!\d)|\^\s*(?:\d|\{\s*[-\d])|[-+*/]\d| ?\\(?:cdot|times)\b ?\d|"
    r"\}\s*\{[^{}\n]{1,40}\}"
)
"""Signs written against a box that make it a part of an expression: ``2\\boxed{42}``, ``\\boxed{42}^2``."""
_TOKEN_END = "<|end_of_box|>"


def boxes(text: str, *, in_reference: bool = False) -> Iterator[Statement]:
    """Complete boxes that are neither asked about nor taken back, without the boxes within them.

    Boxes that are parts of an expression are none, but for a reference, whose author meant what he boxed.
    """
    end = 0
    for match in list(_BOX.finditer(text))[-MAX_BOXES:]:
        if match.start() < end:
            continue
        span = _span(text, match)
        if span is None:
            continue
        begin, close, end = span
        if DENIED.search(text, max(0, match.start() - 30), match.start()) or is_taken_back(text, end):
            continue
        if not in_reference and _is_part(text, match.start(), end):
            continue
        inner = _LABEL.sub("", text[begin:close].strip())
        if inner:
            after = "%" * bool(_AFTER.match(text, end))
            yield Statement(inner, match.start(), end, "box", name_before(text, match.start()), after)


def _is_part(text: str, start: int, end: int) -> bool:
    before = _PART_BEFORE.search(text, max(0, start - 60), start)
    return before is not None or _PART_AFTER.match(text, end) is not None


def _span(text: str, match: re.Match[str]) -> tuple[int, int, int] | None:
    """The places where a box's contents begin and end, and where the box ends; None for a box that is not closed."""
    if match["bare"] is not None:
        return match.start("bare"), match.end("bare"), match.end("bare")
    if match[0].startswith("<"):
        close = text.find(_TOKEN_END, match.end(), match.end() + MAX_BOX)
        return None if close < 0 else (match.end(), close, close + len(_TOKEN_END))
    close = _closing(text, match.end())
    return None if close is None else (match.end() + 1, close, close + 1)


def _closing(text: str, opening: int) -> int | None:
    depth = 0
    for at in range(opening, min(len(text), opening + MAX_BOX)):
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return at
    return None
