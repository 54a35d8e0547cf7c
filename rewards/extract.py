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

_THOUGHT = r"(?:think|thinking|thoughts?|reasoning|analysis|reflection|scratchpad)"
_OPEN = re.compile(
    rf"<\|?(?:begin_of_|seed:)?{_THOUGHT}\s*\|?>|\[{_THOUGHT}\]|◁{_THOUGHT}▷|<\|channel\|>(?:analysis|commentary)",
    re.IGNORECASE,
)
_CLOSE = re.compile(
    rf"<(?:/\|?|\|/|\|?end_of_)(?:seed:)?{_THOUGHT}\s*\|?>|\[/{_THOUGHT}\]|◁/{_THOUGHT}▷|<\|channel\|>final",
    re.IGNORECASE,
)
_PHRASE = re.compile(
    r"(?<!check our )(?<!check the )(?<!verify our )(?<!verify the )(?<!check this )(?<!verify this )"
    r"\b(?:answers?|(?:final|correct|right|best) (?:result|value|solution|option|choice))[\"']?"
    r"(?:\s+to\s+[^.\n]{0,60}?)?"
    r"\s*(?:\*\*)?\s*(?:(?:is|are|was|would be|should be|must be|equals|:|=)\s*)+(?:\*\*)?"
    r"(?:(?:therefore|thus|hence|then|simply|just|clearly),?\s+)?(?:option\s+|choice\s+)?",
    re.IGNORECASE,
)
_HEADING = re.compile(r"^[ \t]*####[ \t]*(?!#)(.*)$", re.MULTILINE)
_TAG = re.compile(r"<answer>((?:(?!<answer>).){0,4000}?)</answer>", re.IGNORECASE | re.DOTALL)
_OPEN_TAG = re.compile(r"<answer>", re.IGNORECASE)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_BETWEEN = re.compile(
    r"[\s$]*(?:[,;/|&-]|[.,;(]*\s*\b(?:and|or)\b(?:,?\s*(?:maybe|perhaps|possibly|else|even|also|alternatively))*)?[\s$]*",
    re.IGNORECASE,
)
"""What joins boxes to one statement: "43, or perhaps 42" is no answer of 42."""
_NO = re.compile(
    r"[\s$.)]*(?:\?|(?:is|was|would be|are|seems)\s+(?:wrong|incorrect|false|impossible|invalid|extraneous|"
    r"not\s+(?:right|correct|valid|possible|(?:the|a|an|our)\s+(?:\w+\s+)?(?:answer|solution|result)))\b|"
    r"\(?(?:wrong|incorrect|false|extraneous|rejected)\))",
    re.IGNORECASE,
)
"""What follows a box that is only asked about, or taken back."""
_NOT_A_STATEMENT = re.compile(
    r"^(?:step|part|case|solution|explanation|verification|check|note|conclusion|summary|method|approach|given)\b|:\s*$",
    re.IGNORECASE,
)
_ANSWER_HEADING = re.compile(r"^\**\s*(?:the\s+)?(?:final\s+)?answer\s*\**\s*:?\s*\**$", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s|$|\*\*)|[.](?=[\"')\]]*\s)|<\||</")
_CLAUSE = re.compile(
    r"(?:,\s*|\s+)(?:because|since|so|as|which|where|when|after|given that|if|I hope|for a total|"
    r"hence|therefore|thus|and (?:we|I|it|this|that|the)\b)\b.*$|\s*\((?:since|because|as|where|which|from)\b.*$",
    re.IGNORECASE | re.DOTALL,
)
_CASES = re.compile(r"\b(?:if|when|where|after)\b.*\b(?:otherwise|else|or|and|but)\b", re.IGNORECASE | re.DOTALL)
"""A clause that goes on to another case: "42 if x > 0, else 43" states no 42."""
_REMARK = re.compile(
    r"^(?:\w+ly |indeed |also |not )*(?:correct|incorrect|right|wrong|valid|unique|reasonable|"
    r"obvious|clear|unknown|below|above|as follows)\b",
    re.IGNORECASE,
)
"""What is said about an answer is not one."""
_MATH = re.compile(
    r"\$\$(?P<display>[^$]{1,2000})\$\$|\$(?P<inline>(?:[^$\n]|(?<=\\\\)\n){1,1000})\$|\\\((?P<round>.{1,1000}?)\\\)|\\\[(?P<square>.{1,2000}?)\\\]",
    re.DOTALL,
)
_BOLD = re.compile(r"\*\*([^*\n]{1,300})\*\*")
_HALF_BOLD = re.compile(r"(?<=[^\s*])\*\*(?=[\s.,]|$)")
"""The end of bold text whose beginning was read with the words before it; 2**3 has no space."""
_PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}\s")
_JOIN_LEFT = re.compile(r"(?:(?<=[\s(])|^)([^\s,;]{0,60}?[\w)}\]!%°.]\s*[-+*/^×÷·]\s*|(?:[-+$±∓]|\\pm|\\mp)\s*)$")
_FRACTIONS = "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
_BEFORE = re.compile(
    r"(?:(?<![A-Za-z])(?P<name>[A-Za-z]) ?= ?)?"
    r"(?P<item>\*\*[^*\n]{1,100}\*\*|\$[^$\n]{1,200}\$|\\\([^\n]{1,200}?\\\)|(?<![\w.,/])[-+$]{0,2}\d[\d.,/]{0,40}%?)"
    r"\s*(?:,\s*(?:or|and)\s|[,;]\s|\bor\s|\band\s)\s*(?:(?:maybe|perhaps|possibly|else|even)\s+)?"
    r"(?:(?P<other>[A-Za-z]) ?= ?)?$"
)
_DENIED = re.compile(
    r"(?:\bnot|n't|\bnever|\bcannot|\bexcept|\banything but)\s+(?:be\s+|equal(?:s|\s+to)?\s+)?[$*(]*$", re.IGNORECASE
)
"""What stands before a box that is not the answer."""
_TAKEN_BACK = re.compile(
    r"(?:\bnot|n't|\bnever|\bcannot|\bexcept|\bwithout|\b(?:all|anything) but|\bthan|\bat (?:least|most)|\bminus|"
    r"\bnegative)\s+(?:be\s+|equal(?:s|\s+to)?\s+)?[$*(]*$",
    re.IGNORECASE,
)
"""What stands before a number in a text without a statement, and makes another of it."""
_GUESS = re.compile(r"[-+$]?\d[\d,.]*%?[;|?!]*|[;|]")
_ASKED = re.compile(r"[^\n.!?]{0,40}\?")
_NEXT_LINE = re.compile(r"[ \t]*\n\s*(\$?[-+]?\d[\d,./]*%?\$?)[ \t.]*(?=\n|$)")
_CALCULATOR = re.compile(r"<<[^<>\n]{0,200}>>")
"""GSM8K's marks for its calculator: ``9 * 2 = $<<9*2=18>>18``."""
_LONE = re.compile(r"[\W_]*(\(?[A-Ja-j]\)|[A-Za-z]|[A-Za-z]{2,20})[.!*\s]*")
_LABEL = re.compile(r"^\\text ?\{ ?(?:the |our )?(?:final |correct )?answers? (?:is|are):? ?\} ?", re.IGNORECASE)
_UNIT_RIGHT = re.compile(r"\s*(?:\\?%|percent\b|(?:hundred|thousand|million|billion|trillion|dozen)\b)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement:
    """An answer and the span of the text that states it."""

    text: str
    start: int
    end: int


def extract_answer(text: str) -> str | None:
    """The final answer as written, without what surrounds it; None when the text states none."""
    text = _CALCULATOR.sub("", visible(text)[-MAX_TAIL:])
    statement = max(_statements(text), key=lambda s: s.start, default=None)
    if statement is not None:
        return statement.text
    return _last_bold(text) or _last_value(text) or _lone_word(text)


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
    boxes = list(_boxes(text))
    yield from boxes
    yield from _headings(text)
    end = 0
    for match in _TAG.finditer(text):
        inner, end = match[1].strip(), match.end()
        if inner:
            # A box or a phrase inside the tag starts later and wins.
            yield Statement(inner, match.start(), end)
    opened = _OPEN_TAG.search(text, end)
    if opened is not None and (inner := text[opened.end() :].strip()) and len(inner) < 4_000:
        yield Statement(inner, opened.start(), len(text))  # where sampling stops at the closing tag
    for phrase in _phrases(text):
        if not any(b.start < phrase.start < b.end for b in boxes):
            yield phrase


def _boxes(text: str) -> Iterator[Statement]:
    """Complete boxes; neighbours joined by a comma or a word are one statement, ``\\boxed{1}`` and ``\\boxed{2}``."""
    group: list[Statement] = []
    for match in list(_BOX.finditer(text))[-MAX_STATEMENTS:]:
        if group and match.start() < group[-1].end:
            continue  # a box within a box
        end = _closing(text, match.end())
        if end is None:
            continue
        if _DENIED.search(text, max(0, match.start() - 30), match.start()) or _NO.match(text, end + 1, end + 80):
            continue
        inner = _LABEL.sub("", text[match.end() + 1 : end].strip())
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
        content, is_question = _sentence(text, start)
        if content and not is_question and not _REMARK.match(content):
            content = content if "{" in content else content.rstrip("}")
            yield Statement(_core(content), match.start(), start + len(content))


def _sentence(text: str, start: int) -> tuple[str, bool]:
    """The rest of the sentence, with a formula that opens it kept whole; on the next line if this one is empty. And
    whether it ends in a question mark."""
    while start < len(text) and text[start] in " \t\n*:":
        start += 1
    at = start
    formula = _MATH.match(text, start)
    if formula is not None and not _PROSE.search(formula[0]):
        at = formula.end()
    end = _SENTENCE_END.search(text, at)
    content = text[start : len(text) if end is None else end.start()][:2_000].strip()
    more = _NEXT_LINE.match(text, end.start()) if end is not None and end[0] == "\n" else None
    if more is not None and more[1].strip("$") != content.strip("$* "):
        content = f"{content.rstrip(',;')}, {more[1]}"  # numbers one below the other are several answers
    return content, end is not None and end[0] == "?"


def formulas(text: str) -> list[str]:
    """The formulas between dollar signs or TeX's own brackets."""
    return [next(g for g in m.groups() if g) for m in _MATH.finditer(text[:MAX_TAIL])]


def _core(text: str) -> str:
    """The answer in a clause: its only formula if it has one, else the clause without reasons and emphasis."""
    bold = _BOLD.match(text)
    if bold is not None:
        text = bold[1]
    text = _HALF_BOLD.sub("", text)
    found = [m for m in _MATH.finditer(text) if not _PROSE.search(m[0])]
    if len(found) == 1 and not re.search(r"\d", text[: found[0].start()] + text[found[0].end() :]):
        before, after = text[: found[0].start()].strip(), text[found[0].end() :]
        inner = next(g for g in found[0].groups() if g)
        if not re.search(r"\b(?:not|less|more|least|most|or|and|between|than|except)\b", before + after):
            return inner.strip() + (" " + _unit(after) if _unit(after) else "")
    clause = _CLAUSE.search(text)
    if clause is None or (_CASES.search(clause[0]) and re.search(r"\d|\b[A-J]\b", clause[0])):
        return text.strip(" \t*`")
    return text[: clause.start()].strip(" \t*`")


def _unit(after: str) -> str:
    match = re.match(r"\s*(\\?%|percent\b|[A-Za-z][A-Za-z ]{0,40})", after)
    return "" if match is None else _CLAUSE.sub("", match[1]).strip()


def _last_bold(text: str) -> str | None:
    for match in reversed(list(_BOLD.finditer(text))):
        content = match[1].strip()
        if re.search(r"\d", content) and not _NOT_A_STATEMENT.search(content):
            return _listed(text, match.start(), _core(content))
    return None


def _lone_word(text: str) -> str | None:
    """A text without numbers that is nothing but a letter or a word, or that ends in a short bold one."""
    found = list(_BOLD.finditer(text))
    bold = [m[1].strip() for m in found]
    if len(found) > 1 and bold[-1] != bold[-2] and _BETWEEN.fullmatch(text[found[-2].end() : found[-1].start()]):
        return None
    if bold and len(bold[-1]) <= 40 and not _NOT_A_STATEMENT.search(bold[-1]):
        return bold[-1].strip(".")
    alone = _LONE.fullmatch(text) if len(text) < 40 else None
    return None if alone is None else alone[1]


def _last_value(text: str) -> str | None:
    """The last formula if the last number is in it, else the last number with what is written against it; and what is
    listed with it. None when that is taken back: "not 5"."""
    at = next((i for i in range(len(text) - 1, -1, -1) if text[i].isdecimal() or text[i] in _FRACTIONS), None)
    if at is None or _ASKED.match(text, at + 1) or _is_spam(text):
        return None
    for match in reversed(list(_MATH.finditer(text, max(0, at - 2_100)))):
        if match.start() <= at < match.end() and not _PROSE.search(match[0]):
            return _listed(text, match.start(), next(g for g in match.groups() if g).strip())
    start, value = _written_against(text, at)
    return None if "\\boxed" in value else _listed(text, start, value)  # a box that was taken back, or never closed


def _is_spam(text: str) -> bool:
    """Whether a text is nothing but several numbers: the last of many guesses is no answer."""
    numbers = text.split()
    return len(set(numbers)) > 1 and all(map(_GUESS.fullmatch, numbers))


def _listed(text: str, start: int, value: str) -> str | None:
    """The value that begins at ``start`` with those before it: "17 or 18" is no answer of 18."""
    items = [value]
    while len(items) < 12:
        before = _BEFORE.search(text, max(0, start - 300), start)
        if before is None or before["name"] != before["other"]:
            break
        items.insert(0, before["item"].strip("$*"))
        start = before.start()
    return None if _TAKEN_BACK.search(text, max(0, start - 30), start) else ", ".join(items)


def _written_against(text: str, at: int) -> tuple[int, str]:
    """The run of signs around the digit, and where it starts.

    Example: ``5`` in "is 5.", ``3/4``, ``12,000``, ``\\frac{3}{4}``, ``2 + 3 = 5``.
    """
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
    found = found if "(" in found else found.rstrip(")").rstrip(".,;:!?*`")
    return start, found if "{" in found else found.rstrip("}")
