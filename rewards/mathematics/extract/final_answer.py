"""The final answer in a completion's text. Plain scans from the end: linear in the text, whatever it holds.

The last complete statement wins (`boxes`, `phrases`), with those that stand beside it: hedging is no
answer. One that the next sentence takes back states nothing. A text without a statement is read by
`plain_text`. Thoughts in tags and comments are skipped, and a thought that never ends states nothing.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import zip_longest

from rewards.mathematics.extract.boxes import boxes
from rewards.mathematics.extract.phrases import headings, holds_value, phrases, tags
from rewards.mathematics.extract.plain_text import plain_answer
from rewards.mathematics.extract.retraction import is_corrected
from rewards.mathematics.extract.statement import Statement, belong_together
from rewards.mathematics.extract.visible_text import visible
from rewards.mathematics.text.decoration import undecorated

MAX_TAIL = 30_000
"""Characters from the end in which a statement is looked for. A final answer stands at the end."""
_FINAL = re.compile(r"\bfinal\s*$", re.IGNORECASE)
_NUMERAL = re.compile(r"[-+$\d.,/% ]*\d[\d.,/% ]*")
_TURNED = re.compile("[\u202d\u202e]")
"""Marks by which a reader sees 24 for 42."""
_NOT = re.compile(r"\W*not\b", re.IGNORECASE)
"""A phrase that says what the answer is not."""
_LEAD = re.compile(r"(?<![\w.,+*/^=-])(\d[\d.,]*)(?<![,.])[\s$]*(?:[,;/]|\bor\b|\band\b|\s)[\s$]*$")
_CALCULATOR = re.compile(r"<<[^<>\n]{0,200}>>")
"""GSM8K's marks for its calculator: ``9 * 2 = $<<9*2=18>>18``."""


def extract_answer(text: str) -> str | None:
    """The final answer as written, without what surrounds it; None when the text states none."""
    return as_list(extract_statements(text)) or None


def as_list(stated: Sequence[Statement]) -> str:
    """Statements that belong together as one list, with their names if these tell them apart."""
    names = [s.name for s in stated]
    if len(set(names)) == len(names) > 1 and all(names):
        return ", ".join(f"{s.name} = {s.text}" for s in stated)
    return ", ".join(dict.fromkeys(s.text for s in stated))


def extract_statements(text: str, question: str = "") -> list[Statement]:
    """The last statement and those that belong to it, in order; none when the text states nothing.

    The question tells of a text without a statement if its last number is about what was asked.
    """
    text = _CALCULATOR.sub("", visible(text)[-MAX_TAIL:])
    if _TURNED.search(text):
        return []
    stated = _statements(text)
    if not stated:
        answer = plain_answer(text, question)
        return [] if answer is None else [Statement(answer, 0, len(text), "plain")]
    if is_corrected(text, stated[-1].end):
        answer = plain_answer(text[stated[-1].end :], question)
        return [] if answer is None else [Statement(answer, 0, len(text), "plain")]
    return _together(text, stated)


@lru_cache(256)
def reference_answer(text: str) -> str:
    """A data set's answer: the last ``####`` line or box of a worked solution, or the whole text."""
    if "####" in text or "\\boxed" in text:
        stated = sorted([*headings(text), *boxes(text, in_reference=True)], key=lambda s: s.start)
        if stated:
            return undecorated(as_list(_together(text, stated)))
    return undecorated(text.strip())


def _statements(text: str) -> list[Statement]:
    """Every statement, in order, without those that hold another and without remarks about an answer given before."""
    boxed = list(boxes(text))
    marked = [*boxed, *headings(text), *tags(text)]
    first = min((s.start for s in marked), default=None)
    phrased = [
        p
        for p in phrases(text)
        if not any(b.start < p.start < b.end for b in boxed) and (first is None or p.start < first or holds_value(p))
    ]
    stated = sorted([*marked, *phrased], key=lambda s: s.start)
    return [s for holder, inner in zip_longest(stated, stated[1:]) for s in _outer(text, holder, inner)]


def _outer(text: str, holder: Statement, inner: Statement | None) -> list[Statement]:
    """A statement, unless it holds the next one; then a number before that: ``#### 41 \\boxed{42}``."""
    if inner is None or inner.start >= holder.end:
        return [holder]
    lead = _LEAD.search(text, holder.start, inner.start)
    return [] if lead is None else [replace(holder, text=lead[1], end=lead.end(1), kind=inner.kind)]


def _together(text: str, stated: list[Statement]) -> list[Statement]:
    group = [stated[-1]]
    for before in reversed(stated[:-1]):
        between = text[before.end : group[0].start]
        if before.kind == group[0].kind == "phrase" and _FINAL.search(text, max(0, before.start - 20), before.start):
            between = _FINAL.sub("", between)  # final twice: none replaces the other
        if (
            (before.kind == "phrase" and _NOT.match(before.text))
            or _are_apart(before, group[0], between)
            or not belong_together(between)
        ):
            break
        group.insert(0, before)
    return group


def _are_apart(before: Statement, last: Statement, between: str) -> bool:
    """Return True if statements of two kinds are two: a phrase, and lines below it a box.

    Two bare numbers one below the other are a hedge.
    """
    if before.kind == last.kind:
        return False
    if "\n" not in between:
        return not all(re.search(r"\d", s.text) for s in (before, last))
    return re.search(r"\w", between) is not None or not all(_NUMERAL.fullmatch(s.text) for s in (before, last))
