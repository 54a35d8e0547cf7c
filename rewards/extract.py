"""The final answer in a completion's text. Plain scans from the end: linear in the text, whatever it holds.

The last complete statement wins: ``\\boxed{...}``, ``#### ...``, ``<answer>...</answer>`` or "the answer is ...".
Without one: the last bold text that holds a number, then the last formula or number. Thoughts in tags are skipped,
and a thought that never ends states nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_TAIL = 30_000
"""Characters from the end in which a statement is looked for. A final answer stands at the end."""
MAX_STATEMENTS = 100
"""Boxes and phrases looked at, from the end."""

_THOUGHT = r"(?:think|thinking|thought|reasoning|analysis)"
_OPEN = re.compile(rf"<\|?{_THOUGHT}\|?>", re.IGNORECASE)
_CLOSE = re.compile(rf"</\|?{_THOUGHT}\|?>", re.IGNORECASE)
_PHRASE = re.compile(
    r"(?<!check our )(?<!check the )(?<!verify our )(?<!verify the )(?<!check this )(?<!verify this )"
    r"\banswer(?:\s+to\s+[^.\n]{0,60}?)?\s*(?:\*\*)?\s*(?:(?:is|was|would be|should be|equals|:|=)\s*)+(?:\*\*)?"
    r"(?:option\s+|choice\s+)?",
    re.IGNORECASE,
)
_HEADING = re.compile(r"^[ \t]*####[ \t]*(?!#)(.*)$", re.MULTILINE)
_TAG = re.compile(r"<answer>((?:(?!<answer>).){0,4000}?)</answer>", re.IGNORECASE | re.DOTALL)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_BETWEEN = re.compile(r"[\s$]*(?:,|;|\band\b|\bor\b|,\s*and\b|,\s*or\b)?[\s$]*")
_NOT_A_STATEMENT = re.compile(
    r"^(?:step|part|case|solution|explanation|verification|check|note|conclusion|summary|method|approach|given)\b|:\s*$",
    re.IGNORECASE,
)
_ANSWER_HEADING = re.compile(r"^\**\s*(?:the\s+)?(?:final\s+)?answer\s*\**\s*:?\s*\**$", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s|$|\*\*)|[.](?=[\"')\]]*\s)|<\||</")
_CLAUSE = re.compile(
    r"(?:,\s*|\s+)(?:because|since|so|as|which|where|when|after|given that|if|I hope|for a total|"
    r"hence|therefore|thus)\b.*$",
    re.IGNORECASE | re.DOTALL,
)
_REMARK = re.compile(
    r"^(?:\w+ly |indeed |also |not )*(?:correct|incorrect|right|wrong|valid|unique|reasonable|"
    r"obvious|clear|unknown|below|above|as follows)\b",
    re.IGNORECASE,
)
"""What is said about an answer is not one."""
_MATH = re.compile(
    r"\$\$(?P<display>[^$]{1,2000})\$\$|\$(?P<inline>[^$\n]{1,1000})\$|\\\((?P<round>.{1,1000}?)\\\)|\\\[(?P<square>.{1,2000}?)\\\]",
    re.DOTALL,
)
_BOLD = re.compile(r"\*\*([^*\n]{1,300})\*\*")
_PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}\s")
_JOIN_LEFT = re.compile(r"(?:(?<=[\s(])|^)([^\s,;]{0,60}?[\w)}\]!%°.]\s*[-+*/^×÷·]\s*|[-+$]\s*)$")
_UNIT_RIGHT = re.compile(r"\s*(?:\\?%|percent\b|(?:hundred|thousand|million|billion|trillion|dozen)\b)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement:
    """An answer and the span of the text that states it."""

    text: str
    start: int
    end: int


def extract_answer(text: str) -> str | None:
    """The final answer as written, without what surrounds it; None when the text states none."""
    text = visible(text)[-MAX_TAIL:]
    statement = max(_statements(text), key=lambda s: s.start, default=None)
    if statement is not None:
        return statement.text
    return _last_bold(text) or _last_value(text)


def visible(text: str) -> str:
    """What follows the last closed thought. A thought left open hides everything after its tag."""
    text = text[max((m.end() for m in _CLOSE.finditer(text)), default=0) :]
    opened = _OPEN.search(text)
    return text if opened is None else text[: opened.start()]


def reference_answer(text: str) -> str:
    """A data set's answer: the last ``####`` line or box of a worked solution, or the whole text."""
    if "####" in text or "\\boxed" in text:
        statement = max([*_headings(text), *_boxes(text)], key=lambda s: s.start, default=None)
        if statement is not None:
            return statement.text
    return text.strip()


def _statements(text: str) -> Iterator[Statement]:
    yield from _boxes(text)
    yield from _headings(text)
    for match in _TAG.finditer(text):
        inner = match[1].strip()
        if inner:
            # A box or a phrase inside the tag starts later and wins.
            yield Statement(inner, match.start(), match.end())
    yield from _phrases(text)


def _boxes(text: str) -> Iterator[Statement]:
    """Complete boxes; neighbours joined by a comma or a word are one statement, ``\\boxed{1}`` and ``\\boxed{2}``."""
    group: list[Statement] = []
    for match in list(_BOX.finditer(text))[-MAX_STATEMENTS:]:
        if group and match.start() < group[-1].end:
            continue  # a box within a box
        end = _closing(text, match.end())
        if end is None:
            continue
        inner = text[match.end() + 1 : end].strip()
        if group and not _BETWEEN.fullmatch(text[group[-1].end : match.start()]):
            group = []
        group.append(Statement(inner, match.start(), end + 1))
        joined = ", ".join(dict.fromkeys(s.text for s in group))
        if joined:
            yield Statement(joined, match.start(), end + 1)


def _closing(text: str, opening: int) -> int | None:
    depth = 0
    for at in range(opening, min(len(text), opening + 8_000)):
        if text[at] == "{":
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if depth == 0:
                return at
    return None


def _headings(text: str) -> Iterator[Statement]:
    for match in _HEADING.finditer(text):
        content = match[1].strip()
        if _ANSWER_HEADING.match(content) or not content:
            line = re.compile(r"\s*([^\n]+)").match(text, match.end())
            if line is not None and content:
                yield Statement(_core(line[1].strip()), match.start(), line.end())
            continue
        if not _NOT_A_STATEMENT.search(content):
            yield Statement(_core(re.split(r"<\||</", content)[0].strip()), match.start(), match.end())


def _phrases(text: str) -> Iterator[Statement]:
    for match in list(_PHRASE.finditer(text))[-MAX_STATEMENTS:]:
        start = match.end()
        content = _sentence(text, start)
        if content and not _REMARK.match(content):
            yield Statement(_core(content), match.start(), start + len(content))


def _sentence(text: str, start: int) -> str:
    """The rest of the sentence, with a formula that opens it kept whole; on the next line if this one is empty."""
    while start < len(text) and text[start] in " \t\n*:":
        start += 1
    at = start
    formula = _MATH.match(text, start)
    if formula is not None and not _PROSE.search(formula[0]):
        at = formula.end()
    end = _SENTENCE_END.search(text, at)
    return text[start : len(text) if end is None else end.start()][:2_000].strip()


def _core(text: str) -> str:
    """The answer in a clause: its only formula if it has one, else the clause without reasons and emphasis."""
    bold = _BOLD.match(text)
    if bold is not None:
        text = bold[1]
    formulas = [m for m in _MATH.finditer(text) if not _PROSE.search(m[0])]
    if len(formulas) == 1 and not re.search(r"\d", text[: formulas[0].start()] + text[formulas[0].end() :]):
        before, after = text[: formulas[0].start()].strip(), text[formulas[0].end() :]
        inner = next(g for g in formulas[0].groups() if g)
        if not re.search(r"\b(?:not|less|more|least|most|or|and|between|than|except)\b", before + after):
            return inner.strip() + (" " + _unit(after) if _unit(after) else "")
    return _CLAUSE.sub("", text).strip(" \t*`")


def _unit(after: str) -> str:
    match = re.match(r"\s*(\\?%|percent\b|[A-Za-z][A-Za-z ]{0,40})", after)
    return "" if match is None else _CLAUSE.sub("", match[1]).strip()


def _last_bold(text: str) -> str | None:
    for match in reversed(list(_BOLD.finditer(text))):
        content = match[1].strip()
        if re.search(r"\d", content) and not _NOT_A_STATEMENT.search(content):
            return _core(content)
    return None


def _last_value(text: str) -> str | None:
    """The last formula if the last number is in it, else the last number with what is written against it."""
    at = next((i for i in range(len(text) - 1, -1, -1) if text[i].isdecimal()), None)
    if at is None:
        return None
    for match in reversed(list(_MATH.finditer(text, max(0, at - 2_100)))):
        if match.start() <= at < match.end() and not _PROSE.search(match[0]):
            return next(g for g in match.groups() if g).strip()
    return _written_against(text, at)


def _written_against(text: str, at: int) -> str:
    """``5`` in "is 5.", ``3/4``, ``12,000``, ``\\frac{3}{4}``, ``2 + 3 = 5``: the run of signs around the digit."""
    start, end = at, at + 1
    while start > 0 and not text[start - 1].isspace() and at - start < 5_000:
        start -= 1
    while end < len(text) and not text[end].isspace() and end - at < 5_000:
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
    found = re.split(r"[=≈]", text[start:end])[-1].strip(" \t\n*`\"'").rstrip(".,;:!?*`\"'")
    return found if "(" in found else found.rstrip(")").rstrip(".,;:!?*`")
