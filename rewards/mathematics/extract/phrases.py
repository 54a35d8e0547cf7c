"""Phrases and marks that state an answer: "the answer is ...", ``#### ...``, ``<answer>...</answer>``."""

import re
from collections.abc import Iterator

from rewards.mathematics.extract.retraction import DOUBTED, is_supposed, is_taken_back
from rewards.mathematics.extract.sentence import answer_in_clause, only_formula, sentence
from rewards.mathematics.extract.statement import Statement
from rewards.mathematics.text.number_words import number_in_words

MAX_PHRASES = 100
"""Phrases looked at, from the end."""
MAX_TAG = 4_000
_PHRASE = re.compile(
    r"\b(?=[afcrb])(?:(?:final_)?answers?|(?:final|correct|right|best) (?:result|value|solution|option|choice))[\"']?"
    r"(?:\s+to\s+[^.\n]{0,60}?)?"
    r"\s*(?:\*\*)?\s*(?:(?:is|are|was|would be|should be|must be|equals|(?:comes|turns|works) out to(?: be)?|:|：|"
    r"=)\s*)+"
    r"(?:\*\*)?[\"']?"
    r"(?:(?:therefore|thus|hence|then|simply|just|clearly),?\s+)?(?:option\s+|choice\s+)?"
    r"|(?:最终)?(?:答案|答)\s*(?:就?是|应?为|：|:)+\s*",
    re.IGNORECASE,
)
_CHOSEN = re.compile(
    r"\b(?i:option|choice|answer)\s+\(?([A-Ja-j])\)?\s+is\s+(?:the\s+)?(?:correct|right|best|answer)\b"
    r"|\b([A-J])\)?\*{0,2}\s+is\s+(?:the\s+)?(?:correct|right|best)\b"
    r"|\b(?:choose|pick|select|chose|go with|chosen)\s+(?:(?i:option|choice|"
    r"answer)\s+\(?([A-J])\)?(?=[.,;!\s]*(?:$|\n|\b(?:because|since|as)\b))"
    r"|\(?([A-J])\)?(?=[.!\s]*$))"
    r"|(?<![不没别勿非否])选择?\s*[:：]?\s*[(（]?([A-J])[)）]?(?=[。.\s]*$)"
)
"""An option that is said to be the right one: "option B is correct", "I choose B"."""
_BEFORE_CHOSEN = re.compile(
    r"(?:^|[.。!\n,]|\b(?:hence|thus|therefore|so|then|i|we|must|should|would|will|option|choice|answer)\b)[\s*(]*$",
    re.IGNORECASE,
)
"""Words that may stand before a letter that no "option" announces: it opens the sentence."""
_OTHER_ANSWER = re.compile(r"\b(?:(?:check|verify) (?:our|the|this)|wrong|incorrect|false|bad) $", re.IGNORECASE)
"""Words before "answer is" that state none."""
_LEADING_ON = re.compile(
    r"[\s,;|]*(?:\b(?:and|or|so|but|also|the|my|our|final|correct|because|since|where|as)\b[\s,;|]*){0,5}$",
    re.IGNORECASE,
)
_JSON_LIST = re.compile(r"\[([^\[\]{}]{1,400})\]")
_JSON_REST = re.compile(
    r"(?P<value>[^\"{}\[\],]{1,100})\"?\s*,\s*\"(?:confidence|explanation|reason(?:ing)?|units?|steps|rationale|"
    r"justification|method|thoughts?)\"\s*:"
)
"""A value in JSON with remarks about it behind."""
_NOT_BUT = re.compile(
    r"^not (?!only\b|just\b)[^.;\n]{1,30}?[,;]? (?:but(?: rather)?|it is|it['’]s|rather)[, ]+(?!not\b)", re.IGNORECASE
)
"""A value that the answer is not, before the one that it is."""
_HEADING = re.compile(r"^[ \t]*####[ \t]*(?!#)(.*)$", re.MULTILINE)
_TAG = re.compile(
    r"<(?P<tag>answer|final_answer)>(?P<inner>(?:(?!<(?P=tag)>).){0,4000}?)</(?P=tag)>"
    r"|\[answer\](?P<square>[^\[\]]{0,400}?)\[/answer\]",
    re.IGNORECASE | re.DOTALL,
)
_SO = re.compile(
    r"(?:so|thus|hence|therefore|then|it|this|that|we|the)\b[^$\n]{0,80}\$[^$\n]{1,200}\$[\s.]*$", re.IGNORECASE
)
"""A sentence in a tag that ends with its formula."""
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
_PROSE = re.compile(
    r"^(?:(?!yes|no|true|false|none|infinit)[a-z]{4,}|(?:the|an?) (?!total|number|value|sum is|"
    r"answer)[a-z]{3,} .*)\W*$",
    re.DOTALL,
)
"""No value, behind one given before: a property, or how it came about ("the sum of 40 and 2")."""


def is_heading_of_another_kind(content: str) -> bool:
    """Return True if a heading or bold text opens a part of the work: "Step 1"."""
    return _NOT_A_STATEMENT.search(content) is not None


def holds_value(statement: Statement) -> bool:
    """Return True if a phrase names a value, an option or one word, and not a remark in prose."""
    return _VALUE.search(statement.text) is not None and not _is_prose(statement.text)


def _is_prose(text: str) -> bool:
    return _PROSE.match(text) is not None and number_in_words(text.strip(" .").lower()) is None


def headings(text: str) -> Iterator[Statement]:
    """``#### 18``, or the line after ``#### Final Answer``."""
    for match in _HEADING.finditer(text):
        content = match[1].strip()
        if _ANSWER_HEADING.match(content) or not content:
            line = re.compile(r"\s*([^\n]+)").match(text, match.end())
            if line is not None and content:
                yield Statement(answer_in_clause(line[1].strip()), match.start(), line.end(), "heading")
            continue
        if not is_heading_of_another_kind(content) and not DOUBTED.search(content):
            yield Statement(
                answer_in_clause(re.split(r"<\||</", content)[0].strip()), match.start(), match.end(), "heading"
            )


def tags(text: str) -> Iterator[Statement]:
    """Answer tags; the last may be open, where sampling stopped at the closing one."""
    end = 0
    for match in _TAG.finditer(text):
        inner, end = (match["inner"] or match["square"] or "").strip(), match.end()
        if inner and not is_taken_back(text, end):
            # A box or a phrase inside the tag starts later and wins.
            stated = only_formula(inner) if _SO.match(inner) else None
            yield Statement(stated or inner, match.start(), end, "tag")
    opened = _OPEN_TAG.search(text, end)
    if opened is not None and (inner := text[opened.end() :].strip()) and len(inner) < MAX_TAG:
        yield Statement(inner, opened.start(), len(text), "tag")


def phrases(text: str) -> Iterator[Statement]:
    """Yield what follows "the answer is", to the end of the sentence; questions and suppositions state nothing."""
    for match in _CHOSEN.finditer(text):
        if match.lastindex in (2, 3, 4) and not _BEFORE_CHOSEN.search(text, max(0, match.start() - 30), match.start()):
            continue
        yield Statement(match[match.lastindex or 0].upper(), match.start(), match.end(), "phrase")
    matches = list(_PHRASE.finditer(text))[-MAX_PHRASES:]
    limits = [*(m.start() for m in matches[1:]), len(text)][: len(matches)]
    for match, limit in zip(matches, limits, strict=True):
        if _OTHER_ANSWER.search(text, max(0, match.start() - 15), match.start()):
            continue
        content, end, is_question = sentence(text[:limit], match.end())
        if end == limit < len(text):  # "41 and the answer is 42" states 41, too
            content = _LEADING_ON.sub("", content)
        content = _NOT_BUT.sub("", content)
        if not content or is_question or _REMARK.match(content) or is_supposed(text, match.start()):
            continue
        if DOUBTED.search(content):
            continue
        content = content if "{" in content else content.rstrip("}").strip("\"'")
        if '"' in match[0] and (rest := _JSON_REST.match(content)) is not None:
            content = rest["value"].strip()
        if '"' in match[0] and (row := _JSON_LIST.fullmatch(content.strip())) is not None:
            content = row[1]
        yield Statement(answer_in_clause(content), match.start(), end, "phrase")
