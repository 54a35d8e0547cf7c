"""Reads what stands within one bracket: a set, a point, an interval, or a set given by a condition."""

import re

from rewards.mathematics.expressions.shapes import Answer, Described, Items, Named, Read, Relation, Union
from rewards.mathematics.expressions.tree import Symbol, Unparsable, walk
from rewards.mathematics.parse.lists import collect
from rewards.mathematics.text.brackets import closes, items

_CONDITION = re.compile(r" ?([a-z])(?: ?∈ ?\\mathbb ?\{? ?R ?\}?)? ?[|:](.*)", re.DOTALL)
_POINT = re.compile(
    r"^(?:(?:\\text\{ ?)?(?:the )?(?:point|vertex|cent(?:er|re)|focus|coordinates?|midpoint)(?: at|"
    r" is)? ?:? ?\}? ?(?=\()|"
    r"(?P<letter>[ABCDEMOPQ]) ?(?=\( ?[-\d\\][^()]*,))"
)
"""The name of a point before its coordinates: the vertex (2, -3), P(2, -3). A letter counts beside another."""
_TRANSPOSED = re.compile(r"^(\([^()^]+,[^()^]+\)) ?\^ ?\{? ?(?:T|\\top|\\intercal) ?\}?$")
"""A column that is written as a row: (1, 2)^T."""
_BARE_SET = re.compile(r"^\{ ?([^{}]*,[^{}]*) ?\}$")


def read_bracketed(text: str, read: Read) -> Answer | None:
    """The contents of the bracket around everything; None when there is none."""
    if (point := _POINT.match(text)) is not None:
        value = read_bracketed(text[point.end() :], read)
        return value if value is None or point["letter"] is None else Named(point["letter"], value)
    if text in ("\\{\\}", "\\{ \\}", "∅"):
        return Items("{", "}", ())
    text = _TRANSPOSED.sub(r"\1", text)
    if text.startswith("{{") and text.endswith("}}") and "," not in text:
        raise Unparsable("a template's braces")
    if (bare := _BARE_SET.match(text)) is not None:
        return collect("{", "}", items(bare[1]), read)
    if text.startswith("\\{") and text.endswith("\\}") and closes(text.replace("\\{", "{").replace("\\}", "}")):
        return _set(text[2:-2].strip(), read)
    if text[0] in "([⟨" and text[-1] in ")]⟩" and closes(text):
        return _bracket(text, read)
    return None


def _set(inner: str, read: Read) -> Answer:
    if "|" in inner or ":" in inner:
        return _conditioned(inner, read)
    return collect("{", "}", items(inner), read)


def _bracket(text: str, read: Read) -> Answer | None:
    inner = text[1:-1].strip()
    pieces = items(inner)
    if len(pieces) > 1:
        left, right = ("(", ")") if text[0] + text[-1] == "⟨⟩" else (text[0], text[-1])
        return collect(left, right, pieces, read)
    return read(inner) if any(c in inner for c in "=<>≤≥≠∪") or "\\begin{" in inner else None


def _conditioned(inner: str, read: Read) -> Answer:
    """``{x | x < 5}`` is its condition, if that is on x alone. Other sets are equal to those with the same words."""
    match = _CONDITION.fullmatch(inner)
    if match is not None and any(c in match[2] for c in "<>≤≥≠") and "∈" not in match[2]:
        condition = read(match[2].strip())
        pieces = condition.pieces if isinstance(condition, Union) else (condition,)
        if all(_names(piece) == {match[1]} for piece in pieces):
            return condition
        raise Unparsable("a set given by a condition on several variables")
    return Described(re.sub(r"\s+", "", re.sub(r" ?[|:] ?", "|", inner, count=1)))


def _names(piece: Answer) -> set[str]:
    if not isinstance(piece, Relation):
        return set()
    return {n.name for side in piece.sides for n in walk(side) if isinstance(n, Symbol) and n.name != "∞"}
