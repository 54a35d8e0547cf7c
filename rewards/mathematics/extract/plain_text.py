"""Finds the answer of a text that states none: its last bold number, formula or number.

Nothing beside it may make another statement of it. A text may also be only one letter or word.
"""

import re

from rewards.mathematics.compare.asked_unit import fits_question
from rewards.mathematics.expressions.evaluate import rational
from rewards.mathematics.expressions.shapes import Scalar, Words
from rewards.mathematics.expressions.tree import Unparsable
from rewards.mathematics.extract.last_line import MAX_LINE, whole_line
from rewards.mathematics.extract.phrases import is_heading_of_another_kind
from rewards.mathematics.extract.retraction import DENIED, is_supposed, is_taken_back
from rewards.mathematics.extract.sentence import BOLD, answer_in_clause
from rewards.mathematics.extract.spelled_numbers import with_figures
from rewards.mathematics.extract.statement import belong_together
from rewards.mathematics.extract.subject import is_of_another
from rewards.mathematics.extract.values_beside import (
    follows_letters,
    is_followed,
    is_left_to_solve,
    is_named_twice,
    is_option,
    is_spam,
    with_beside,
)
from rewards.mathematics.extract.words_beside import changes_after, changes_before, fragment, is_disputed
from rewards.mathematics.parse.answer import parse_answer
from rewards.mathematics.text.decoration import undecorated_answer
from rewards.mathematics.text.formulas import MATH, is_formula
from rewards.mathematics.text.normalize import normalize
from rewards.mathematics.text.number_words import number_in_words

_JOIN_LEFT = re.compile(r"(?:(?<=[\s(=])|^)([^\s,;]{0,60}?[\w)}\]!%°.]\s*[-+*/^×÷·]\s*|(?:[-+$±∓]|\\pm|\\mp)\s*)$")
_FRACTIONS = "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
_BEFORE = re.compile(
    r"(?:(?<![A-Za-z])(?P<name>[A-Za-z]) ?= ?)?"
    r"(?P<item>\*\*[^*\n]{1,100}\*\*|\$[^$\n]{1,200}\$|\\\([^\n]{1,200}?\\\)|(?<![\w.,/])[-+$]{0,2}\d[\d.,/]{0,40}%?)"
    r"\s*(?:,\s*(?:or|and)\s|[,;]\s|\s(?:[&|/∨]|\|\|)\s|或者?|、|または|又は|또는|أو|או|"
    r"\b(?:or|and|oder|ou|или|либо|lub|veya|atau|hoặc|eller|vel|vagy|nebo|tai|albo)\s)\s*(?:(?:maybe|perhaps|"
    r"possibly|else|"
    r"even)\s+)?"
    r"(?:(?P<other>[A-Za-z]) ?= ?)?$"
)
_RESULT = re.compile(r"\d\)? ?= ?\$?$")
"""The sign before a result of a step of the work: 7+2=9."""
_SCALE = re.compile(r"[ *$]*\b(hundred|thousand|million|billion|trillion)\b", re.IGNORECASE)
_ASKED = re.compile(r"[^\n.!?]{0,40}\?")
_LONE = re.compile(
    r"(?:(?i:hence|thus|therefore|so|option|choice)[,:]? )?[\W_]*(\(?[A-Ja-j]\)|[A-Za-z]|[A-Za-z]{2,20})[.!*\s]*"
)
_UNIT_RIGHT = re.compile(
    r"\s*(?:\\?%|percent\b|pct\b|(?:hundred|thousand|million|billion|trillion|dozen)\b)|"
    r"[\u4e00-\u9fff]{1,8}(?=[。，\s]|$)",
    re.IGNORECASE,
)
_NEXT_WORDS = re.compile(
    r"[ *$]*(?P<words>(?:(?!(?:in|of|for|to|and|or|on|at|from|with|that|because|since|so|per|an?|the|is|are|was|were|"
    r"has|have|had|by|as|if|when|each|will|more|left|after|before|during|over|under|which|who)\b)"
    r"[A-Za-z][A-Za-z'-]*(?: (?=\S)|\b)){1,4})"
)
"""The things that a number counts."""
_SHARE = re.compile(r"\s*(?:\\?%|percent\b|per cent\b|pct\b)", re.IGNORECASE)
_LAST_WORD = re.compile(r"\w+(?=\W*$)")
_TAG = re.compile(r"</?(?!su[bp]>)[A-Za-z_]{1,20}>")
_OPTIONS = re.compile(
    r"\(?\b[A-Ea-e1-5]\)[^()]{1,60}\(?\b[A-Ea-e1-5]\)|\b[IVX]+:[^:]{1,60}\b[IVX]+:"
    r"|\b(?P<kind>(?i:answer|option|choice|guess|possibility|candidate)) ?#?\d\b[^\n]{1,80}\b(?P=kind) ?#?\d\b"
    r"|\b(?i:if (?:it|that|this)(?: is|['’]s) not)\b"
    r"|[\"'](?i:wrong|incorrect|not|question|problem|guess|example|note|alternative|confidence|id|"
    r"(?:final_)?answer)\w*[\"'] ?:"
)
"""Several answers beside each other, of which none is chosen."""


_UNKNOWN = re.compile(
    r"\bI (?:do(?: not|n['’]t) (?:really )?know|have no idea|give up|can(?:not|['’]t) (?:solve|answer|determine))\b",
    re.IGNORECASE,
)
"""A writer who has no answer, whatever numbers he writes."""


def plain_answer(text: str, question: str = "") -> str | None:
    """The answer of a text without a statement, or None."""
    if _UNKNOWN.search(text):
        return None
    text = with_figures(text) if question else text
    return (
        _last_bold(text, question)
        or whole_line(text)
        or _last_value(text, question)
        or _last_display(text, question)
        or _lone_word(text)
    )


def _last_bold(text: str, question: str) -> str | None:
    for match in reversed(list(BOLD.finditer(text))):
        content = match[1].strip()
        if re.search(r"\d", content) and not is_heading_of_another_kind(content):
            scale = _SCALE.match(text, match.end())
            if is_taken_back(text, match.end()) or (scale is None and changes_after(text, match.end())):
                return None
            if is_of_another(text, match.start(), match.end(), question) or is_followed(text, match.end()):
                return None
            if follows_letters(text, match.start()):
                return None
            content = answer_in_clause(content) if scale is None else f"{answer_in_clause(content)} {scale[1]}"
            return _bold_list(text, match) or _listed(text, match.start(), content, question)
    return None


def _bold_list(text: str, last: re.Match[str]) -> str | None:
    """The last bold number with those of the lines above it, when nothing else stands between."""
    numbers = [m for m in BOLD.finditer(text[: last.end()]) if re.search(r"\d", m[1])]
    if len(numbers) < 2 or numbers[-2][1] == last[1] or text[numbers[-2].end() : last.start()].strip(" \n,;-*/|&"):
        return None
    return f"{answer_in_clause(numbers[-2][1].strip())}, {answer_in_clause(last[1].strip())}"


def _last_value(text: str, question: str) -> str | None:
    """The last formula if the last number is in it, else the last number with what is written against it; and what is
    listed with it. None when that is taken back: "not 5"."""
    at = next((i for i in range(len(text) - 1, -1, -1) if text[i].isdecimal() or text[i] in _FRACTIONS), None)
    if (
        at is None
        or _ASKED.match(text, at + 1)
        or is_spam(text)
        or is_named_twice(text)
        or _OPTIONS.search(text[-MAX_LINE:])
    ):
        return None
    for match in reversed(list(MATH.finditer(text, max(0, at - 2_100)))):
        if match.start() <= at < match.end() and is_formula(match):
            share = _SHARE.match(text, match.end())
            end, sign = (match.end(), "") if share is None else (share.end(), "\\%")
            return _unless_changed(text, match.start(), end, with_beside(text, match) + sign, question)
    if is_option(text, at):
        return None
    start, end, value = _written_against(text, at)
    if "\\boxed" in value or is_left_to_solve(text[start:end]):
        return None  # a box that was taken back, or never closed; an equation that is not solved
    point = _bracketed(text, start, end)
    if point is not None:
        return point
    line = fragment(text, start, end)
    if line is not None and set(line.split()) != {value}:
        value = _value_of_line(_TAG.sub("", line), value)
    return None if value is None else _unless_changed(text, start, end, value, question)


def _value_of_line(line: str, number: str) -> str | None:
    """Return the answer in a line without a verb: "17 dollars" the number, "17 y" itself, "Theorem 17" nothing."""
    line = undecorated_answer(line, "")
    try:
        answer = parse_answer(normalize(line))
    except (Unparsable, RecursionError):
        return None
    if isinstance(answer, Words):
        return None
    if isinstance(answer, Scalar) and rational(answer.node) is not None:
        return line if any(w.startswith("?") for w in answer.unit) else number
    return line


def _unless_changed(text: str, start: int, end: int, value: str, question: str) -> str | None:
    if is_taken_back(text, end) or changes_after(text, end) or is_supposed(text, start) or is_followed(text, end):
        return None
    if is_disputed(text, start, end) or is_of_another(text, start, end, question):
        return None
    counted = _NEXT_WORDS.match(text, end)
    if (
        question
        and counted is not None
        and not fits_question(question, value, f"{value} \\text{{ {counted['words']}}}")
    ):
        return None
    return _listed(text, start, value, question)


def _bracketed(text: str, start: int, end: int) -> str | None:
    """The point or interval whose last item a number is: "(x, 42)"."""
    opening = max(text.rfind("(", max(0, start - 80), start), text.rfind("[", max(0, start - 80), start))
    if (
        opening < 0
        or not re.search(r",[^()\[\]\n]*$", text[opening + 1 : start])
        or re.search(r"[)\]\n]", text[opening:start])
    ):
        return None
    closing = re.compile(r"[)\]]").search(text, start, end + 20)
    return None if closing is None else text[opening : closing.end()]


def _listed(text: str, start: int, value: str, question: str) -> str | None:
    """The value that begins at ``start`` with those before it: "17 or 18" is no answer of 18."""
    items = [value]
    while len(items) < 12:
        before = _BEFORE.search(text, max(0, start - 300), start)
        if before is None or (before["other"] and before["name"] != before["other"]):
            break
        if _RESULT.search(text, max(0, before.start("item") - 8), before.start("item")):
            break
        items.insert(0, before["item"].strip("$*"))
        start = before.start()
    denied = DENIED.search(text, max(0, start - 30), start) is not None
    return None if denied or changes_before(text, start, question) else ", ".join(items)


def _written_against(text: str, at: int) -> tuple[int, int, str]:
    """The run of signs around the digit, and where it starts and ends.

    Example: ``5`` in "is 5.", ``3/4``, ``12,000``, ``\\frac{3}{4}``, ``2 + 3 = 5``.
    """
    start, end = at, at + 1
    while start > 0 and not _is_boundary(text[start - 1]) and at - start < 5_000:
        start -= 1
    while end < len(text) and not _is_boundary(text[end]) and end - at < 5_000:
        end += 1
    for _ in range(12):
        joined = _JOIN_LEFT.search(text, max(0, start - 200), start)
        if joined is None:
            break
        start = joined.start()
    if re.match(r"\d+/\d", text[start:end]) and (whole := re.search(r"(?:(?<=\s)|^)[-$]?\d{1,9}\s+$", text[:start])):
        start = whole.start()
    unit = _UNIT_RIGHT.match(text, end)
    end = end if unit is None else unit.end()
    # What an equation comes to: "2+3=5" states 5.
    value = re.split(r"[=≈]", _TAG.sub("", text[start:end]))[-1].strip(" \t\n*`\"'").rstrip(".,;:!?*`\"'。（")
    value = value if "(" in value else value.rstrip(")").rstrip(".,;:!?*`")
    return start, end, value if "{" in value else value.rstrip("}")


def _is_boundary(character: str) -> bool:
    return character.isspace() or "\u3000" <= character <= "\u9fff"


def _last_display(text: str, question: str) -> str | None:
    """A last formula on its own, of letters only: ``f(y) = y``."""
    formulas = [m for m in MATH.finditer(text[-2_000:]) if is_formula(m)]
    if not formulas or re.search(r"\w", text[-2_000:][formulas[-1].end() :]) or "\\boxed" in formulas[-1][0]:
        return None
    value = with_beside(text[-2_000:], formulas[-1])
    return _unless_changed(text[-2_000:], formulas[-1].start(), formulas[-1].end(), value, question)


def _lone_word(text: str) -> str | None:
    """A text without numbers that is nothing but a letter or a word, or that ends in a short bold one."""
    matches = list(BOLD.finditer(text))
    bold = [m[1].strip() for m in matches]
    if len(matches) > 1 and bold[-1] != bold[-2] and belong_together(text[matches[-2].end() : matches[-1].start()]):
        return None
    if bold and re.search(r"\d", bold[-1]):
        return None  # `_last_bold` has seen it, and what stands beside it
    if bold and len(bold[-1]) <= 40 and not is_heading_of_another_kind(bold[-1]):
        return bold[-1].strip(".")
    if len(text) < 80 and number_in_words(" ".join(re.findall(r"[a-z]+", text.lower()))) is not None:
        return text.strip(" .*\n")
    alone = _LONE.fullmatch(text) if len(text) < 40 else None
    return None if alone is None else alone[1]
