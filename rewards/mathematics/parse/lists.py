"""Reads several answers beside each other: lists, unions, membership, and values with a label each."""

import re

from rewards.mathematics.expressions.shapes import Answer, Items, Named, Read, Union
from rewards.mathematics.expressions.tree import Unparsable
from rewards.mathematics.parse.notations import MAX_ITEMS
from rewards.mathematics.parse.scalar import COMMA_NUMBER
from rewards.mathematics.text.brackets import depths, items, split

_MEMBER = re.compile(r"^(?:\( ?[A-Za-z](?: ?, ?[A-Za-z]){1,4} ?\)|\\?[A-Za-z]+ ?(?:_ ?(?:\{ ?\w{1,8} ?\}|\w))? ?'?)$")
_JOINERS = re.compile(r"\\text\{ ?(?:,? ?(and|or)) ?\}|,? (and|or) (?=[^ ])")
_JOINER_IN_TEXT = re.compile(r"(\\text\{[^{}]*?\w),? (?:and|or) ?\}(?= ?[-\d\\({])")
_LABEL = re.compile(r"^(?:\\text\{ ?)?([A-Za-z][A-Za-z ]{0,30}?)\}? ?:(?: ?\} ?| (?=\S)|(?=[¤$\d])) ?(.+)$")
_ORDER_SIGNS = "<>≤≥"


def read_list(text: str, read: Read) -> Answer | None:
    """Membership, unions, labels, then lists."""
    for shape in (_member, _union, _labelled, _list):
        if (answer := shape(text, read)) is not None:
            return answer
    return None


def collect(left: str, right: str, pieces: list[str], read: Read) -> Items:
    """The items of a list, a set or a point. Raises `Unparsable` when there are none, or too many."""
    if not 1 <= len(pieces) <= MAX_ITEMS:
        raise Unparsable("too many items, or none")
    members: list[Answer] = []
    for item in map(read, pieces):
        if isinstance(item, Items) and item.left == "{" and (left == "{" or len(item.items) == 1):
            raise Unparsable("a set within a set")
        # 1 ± 2 in a list is two of its items.
        members.extend(item.items if isinstance(item, Items) and not item.left else (item,))
    return Items(left, right, tuple(members))


def _member(text: str, read: Read) -> Answer | None:
    pieces = split(text, "∈")
    if len(pieces) != 2 or not _MEMBER.match(pieces[0]):
        return None
    return Named(pieces[0], read(pieces[1]))


def _union(text: str, read: Read) -> Answer | None:
    pieces = split(text, "∪")
    return Union(tuple(map(read, pieces))) if len(pieces) > 1 else None


def _labelled(text: str, read: Read) -> Answer | None:
    """``H: 3, T: 5``: each value has its label, which counts."""
    pieces = [_LABEL.match(p) for p in items(text)]
    labels = [p for p in pieces if p is not None and not (len(split(p[2], ":")) > 1)]
    if len(labels) < len(pieces):
        return None
    named = [Named(p[1].strip(), read(p[2].strip())) for p in labels]
    return named[0] if len(named) == 1 else Items("", "", tuple(named))


def _list(text: str, read: Read) -> Answer | None:
    if (
        text.startswith("\\{")
        and "|" in text
        and any(c in text for c in _ORDER_SIGNS)
        and text.find("\\}") == len(text) - 2
    ):
        return None  # the conditions of one set
    if not any(c in text for c in ",;") and " and" not in text and " or" not in text and "text{" not in text:
        return None
    text = _grouped(text)
    separated = _separated(text)
    pieces = items(separated)
    if len(pieces) == 1:
        return read(pieces[0]) if pieces[0] != text or separated != text else None
    pieces = [p for p in pieces if p]
    if any(c in text for c in "<>≤≥≠") and " and" in text:
        raise Unparsable("conditions that hold together")
    if any(c in text for c in _ORDER_SIGNS) and "," not in text and ";" not in text:
        return Union(tuple(map(read, pieces)))
    answers = collect("", "", pieces, read)
    names = [re.sub(r"_.*", "", i.name) for i in answers.items if isinstance(i, Named)]
    if len(names) == len(answers.items) == len(set(names)) and re.search(r"\bor\b", text):
        raise Unparsable("one letter or another")  # x = 1 or y = 2 leaves both open
    return answers


def _grouped(text: str) -> str:
    """The text without the commas within its numbers: 1,234 is one, the pair (1,234) is two."""
    depth = depths(text)
    return COMMA_NUMBER.sub(lambda m: m[0] if depth[m.start()] else m[0].replace(",", ""), text)


def _separated(text: str) -> str:
    """Commas for "and" and "or"."""
    text = _JOINER_IN_TEXT.sub(r"\1}, ", text)
    if "{" not in text.replace("\\{", "") or "text{" in text:
        return _JOINERS.sub(",", text)
    return re.sub(r" (?:and|or) ", ",", text)
