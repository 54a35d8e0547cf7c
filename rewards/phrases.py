"""Phrases and marks that state an answer: "the answer is ...", ``#### ...``, ``<answer>...</answer>``."""

import re
from collections.abc import Iterator

from rewards.retraction import DOUBTED, is_supposed
from rewards.sentence import core, sentence
from rewards.statement import Statement

MAX_PHRASES = 100
"""Phrases looked at, from the end."""
MAX_TAG = 4_000
_PHRASE = re.compile(
    r"(?=[afcrb])(?<!check our )(?<!check the )(?<!verify our )(?<!verify the )(?<!check this )(?<!verify this )"
    r"\b(?:answers?|(?:final|correct|right|best) (?:result|value|solution|option|choice))[\"']?"
    r"(?:\s+to\s+[^.\n]{0,60}?)?"
    r"\s*(?:\*\*)?\s*(?:(?:is|are|was|would be|should be|must be|equals|:|：|=)\s*)+(?:\*\*)?[\"']?"
    r"(?:(?:therefore|thus|hence|then|simply|just|clearly),?\s+)?(?:option\s+|choice\s+)?"
    r"|(?:最终)?(?:答案|答)\s*(?:就?是|应?为|：|:)+\s*",
    re.IGNORECASE,
)
_CHOSEN = re.compile(
    r"\b(?:option|choice|answer)\s+\(?([A-J])\)?\s+is\s+(?:the\s+)?(?:correct|right|best)\b", re.IGNORECASE
)
_HEADING = re.compile(r"^[ \t]*####[ \t]*(?!#)(.*)$", re.MULTILINE)
_TAG = re.compile(r"<(answer|final_answer)>((?:(?!<\1>).){0,4000}?)</\1>", re.IGNORECASE | re.DOTALL)
_OPEN_TAG = re.compile(r"<(?:final_)?answer>", re.IGNORECASE)
_NOT_A_STATEMENT = re.compile(
    r"^(?:step|part|case|solution|explanation|verification|check|note|conclusion|summary|method|approach|"
    r"given)\b|:\s*$",
    re.IGNORECASE,
)
_ANSWER_HEADING = re.compile(r"^\**\s*(?:the\s+)?(?:final\s+)?answer\s*\**\s*:?\s*\**$", re.IGNORECASE)
_REMARK = re.compile(
    r"^(?:\w+ly |indeed |also |not )*(?:correct|incorrect|right|wrong|valid|unique|reasonable|"
    r"obvious|clear|unknown|below|above|as follows|consistent|verified|obtained|derived|found|given|in|checked|"
    r"confirmed|shown|explained|proven|proved|stated|"
    r"provided|computed|calculated|rounded|simplified|expressed|written|boxed|reached|determined|based|listed)\b",
    re.IGNORECASE,
)
"""Remarks about an answer, which are none."""
_VALUE = re.compile(r"\d|\\|\$|^\W*\(?[A-J]\)?\W*$|^\W*\w+\W*$|^[*_(]*[A-Ja-j][).:,]", re.IGNORECASE)


def is_heading_of_another_kind(content: str) -> bool:
    """Return True if a heading or bold text opens a part of the work: "Step 1"."""
    return _NOT_A_STATEMENT.search(content) is not None


def holds_value(statement: Statement) -> bool:
    """Return True if a phrase names a value, an option or one word, and not a remark in prose."""
    return _VALUE.search(statement.text) is not None


def headings(text: str) -> Iterator[Statement]:
    """``#### 18``, or the line after ``#### Final Answer``."""
    for match in _HEADING.finditer(text):
        content = match[1].strip()
        if _ANSWER_HEADING.match(content) or not content:
            line = re.compile(r"\s*([^\n]+)").match(text, match.end())
            if line is not None and content:
                yield Statement(core(line[1].strip()), match.start(), line.end(), "heading")
            continue
        if not is_heading_of_another_kind(content):
            yield Statement(core(re.split(r"<\||</", content)[0].strip()), match.start(), match.end(), "heading")


def tags(text: str) -> Iterator[Statement]:
    """Answer tags; the last may be open, where sampling stopped at the closing one."""
    end = 0
    for match in _TAG.finditer(text):
        inner, end = match[2].strip(), match.end()
        if inner:
            # A box or a phrase inside the tag starts later and wins.
            yield Statement(inner, match.start(), end, "tag")
    opened = _OPEN_TAG.search(text, end)
    if opened is not None and (inner := text[opened.end() :].strip()) and len(inner) < MAX_TAG:
        yield Statement(inner, opened.start(), len(text), "tag")


def phrases(text: str) -> Iterator[Statement]:
    """Yield what follows "the answer is", to the end of the sentence; questions and suppositions state nothing."""
    for match in _CHOSEN.finditer(text):
        yield Statement(match[1].upper(), match.start(), match.end(), "phrase")
    for match in list(_PHRASE.finditer(text))[-MAX_PHRASES:]:
        content, end, is_question = sentence(text, match.end())
        if not content or is_question or _REMARK.match(content) or is_supposed(text, match.start()):
            continue
        if DOUBTED.search(content):
            continue
        content = content if "{" in content else content.rstrip("}").strip("\"'")
        yield Statement(core(content), match.start(), end, "phrase")
