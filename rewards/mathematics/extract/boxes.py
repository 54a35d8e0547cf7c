"""Boxes: ``\\boxed{42}`` and what models and their templates write for it."""

import re
from collections.abc import Iterator

from rewards.mathematics.extract.box_surroundings import changing_word, is_part
from rewards.mathematics.extract.retraction import DENIED, is_taken_back
from rewards.mathematics.extract.statement import Statement, name_before

MAX_BOXES = 100
"""Boxes looked at, from the end."""
MAX_BOX = 8_000
_BOX = re.compile(
    r"(?:\\(?:boxed|f(?:rame)?box)|(?<![A-Za-z\\])(?:boxed|\x08oxed))\s*(?=\{)|\\(?:boxed|"
    r"fbox)\s*(?P<bare>[-+]?[\w./]{1,40})|<\|begin_of_box\|>"
)
_REDEFINED = re.compile(r"\\(?:def|let|(?:re|provide)?(?:new)?command\*?)\s*\{?\s*\\(?:boxed|f(?:rame)?box)\b")
"""A text in which a box is said to show something else."""
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
"""A brace, or a command's first sign: ``\\{`` is no brace of a group, and may stand without the other."""
_LABEL = re.compile(
    r"^\\text ?\{ ?(?:the |our )?(?:final |correct )?ans(?:wers?)?(?: is| are)? ?:? ?\} ?", re.IGNORECASE
)
_AFTER = re.compile(r"(?:[\s$)~}]|\\[,;: !)\]]|\\text\s*\{){0,6}(?:\\?%|percent\b|per cent\b|pct\b)", re.IGNORECASE)
_TOKEN_END = "<|end_of_box|>"


def boxes(text: str, *, in_reference: bool = False) -> Iterator[Statement]:
    """Complete boxes that are neither asked about nor taken back, without the boxes within them.

    Boxes that are parts of an expression are none, but for a reference, whose author meant what he boxed.
    """
    end = 0
    if _REDEFINED.search(text):
        return
    for match in list(_BOX.finditer(text))[-MAX_BOXES:]:
        if match.start() < end:
            continue
        span = _span(text, match)
        if span is None:
            continue
        begin, close, end = span
        if DENIED.search(text, max(0, match.start() - 60), match.start()) or is_taken_back(text, end):
            continue
        if not in_reference and is_part(text, match.start(), end):
            continue
        inner = _LABEL.sub("", text[begin:close].strip().rstrip("\\").strip())
        if inner:
            changing = "" if in_reference else changing_word(text, end)
            whole = f"{inner} \\text{{ {changing}}}" if changing else inner
            after = "%" * bool(_AFTER.match(text, end))
            bare = inner if changing else ""
            yield Statement(whole, match.start(), end, "box", name_before(text, match.start()), after, bare)


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
    for brace in _BRACE.finditer(text, opening, opening + MAX_BOX):
        depth += (brace[0] == "{") - (brace[0] == "}")
        if depth == 0:
            return brace.start()
    return None
