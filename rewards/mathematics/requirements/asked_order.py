"""Questions that ask to put given things in order: a list of them is its order, where other lists have none."""

import re
from collections.abc import Sequence

from rewards.mathematics.text.brackets import items, split
from rewards.mathematics.text.normalize import normalize

_FIRST = (
    "least|greatest|smallest|largest|lowest|highest|shortest|longest|fastest|slowest|oldest|youngest|lightest|heaviest|"
    "biggest|most|first"
)
_ASKED = re.compile(
    r"\b(?:order|arrange|sort|rank|list|put|place|write|rearrange)\b(?:[^.?!]|\.(?=\d))*?"
    rf"\b(?:in (?:\w+ )?order|ascending|descending|increasing|decreasing|alphabetical\w*|(?:{_FIRST})\b(?: \w+)? to)\b",
    re.IGNORECASE,
)
_PARTS = re.compile(r"\(a\).{3,400}\(b\)|\(i\).{3,400}\(ii\)|\brespectively\b", re.DOTALL)
"""A question of several parts, whose answers come in their order."""
_LABEL = re.compile(r"(?:\\text\s*\{\s*)?\(([a-h])\)\s*(?:\}\s*)?(?=[-\d\\({$])")
_CHAINS = ("<", ">", "≤", "≥")


def as_lists(question: str, reference: str, answer: str) -> tuple[str, str]:
    """Return both as they are; where things are to be put in order, chains ``a < b < c`` as the lists that they are."""
    return (_as_list(reference), _as_list(answer)) if _ASKED.search(question) else (reference, answer)


def keeps_order(question: str, reference: str, answer: str) -> bool:
    """Return False if a list of the question's own things, or of its parts, is not in the reference's order."""
    parts = _PARTS.search(question) is not None
    if not _ASKED.search(question) and not parts:
        return True
    expected, given = (_items(text) for text in (reference, answer))
    if parts and len(expected) > 1 and sorted(expected) == sorted(given):
        return expected == given
    asked = _plain(question)
    if len(expected) < 2 or not all(item in asked for item in expected) or set(expected) != set(given):
        return True
    return expected == given


def without_labels(answer: str) -> str:
    """A list without the letters of its parts: (a) 4, (b) 3."""
    labels = _LABEL.findall(answer)
    in_order = len(labels) > 1 and "".join(labels) == "abcdefgh"[: len(labels)] and _LABEL.match(answer)
    return _LABEL.sub("", answer).strip() if in_order else answer


def _as_list(text: str) -> str:
    plain = normalize(text)
    for sign in _CHAINS:
        sides = split(plain, sign)
        if len(sides) > 2 and not any(mark in plain for mark in (*_CHAINS, "=", ",") if mark != sign):
            return ", ".join(sides)
    return text


def _items(text: str) -> Sequence[str]:
    return [_plain(item) for item in items(normalize(text).strip("()[]{}\\ "))]


def _plain(text: str) -> str:
    return re.sub(r"[\s$\\{}]|\\(?:text|left|right)\b|\b(?:and|or)\b", "", normalize(text)).lower()
