"""The readings of commas between digits: ``225,144`` is a number or two, ``0,5`` in a reference may be a half.

A comma before three digits may group them or separate them. A reference of two or three full groups is taken for a
list, unless the question asks for one number, so that no policy is paid for running its items together; otherwise it is
a number, and a list too.
"""

import re
from collections.abc import Iterator

_GROUPS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+")
_FULL_GROUPS = re.compile(r"\d{3}(?:,\d{3}){1,2}")
_LEADING_ZERO = re.compile(r",0\d")
"""In 1,005 the comma groups digits: no list has an item 005."""
_ROUND = re.compile(r"\d{3}(?:,000)+")
_EUROPEAN = re.compile(r"([+-]?)(0|\d{1,3}(?:\.\d{3})+),(\d{1,12})((?: ?(?:%|\\text\{[^{}]*\}|[A-Za-z€].*))?)")
_DECIMAL_COMMA = re.compile(
    r"([+-]?)(\d{1,3}(?:\.\d{3})*|\d{1,9}),(\d{1,2}|\d{4,12})((?: ?(?:%|\\text\{[^{}]*\}|[A-Za-z€].*))?)"
)
_COMMA_IN_QUESTION = re.compile(r"(?<![\d,.(\[{])\d+,\d{1,2} ?(?:€|%|°|\\?%|(?:euros?|EUR|kg|g|km|cm|mm|m|l|ml|h)\b)")
"""A question that writes its own decimals with a comma."""
_TWICE = re.compile(r"(?P<value>.{1,100}?),? ?(?:\\text\{ ?or ?\}|\bor\b) ?(?P=value)")
"""The same value as both of two possibilities: ``4 \\text{ or } 4``."""
_ONE_NUMBER = re.compile(
    r"\bhow (?:many|much)\b|\bwhat (?:is|was|will be) (?:the|her|his|their) "
    r"(?:\w+ )?(?:total|number|value|sum|population|price|cost|amount|profit|salary|income|product)\b",
    re.IGNORECASE,
)


def readings(reference: str, answer: str, question: str = "") -> Iterator[tuple[str, str]]:
    """Normalised answers in the spellings in which they are to be compared."""
    twice = _TWICE.fullmatch(reference), _TWICE.fullmatch(answer)
    if twice[0] or twice[1]:
        yield reference, answer
        yield twice[0]["value"] if twice[0] else reference, twice[1]["value"] if twice[1] else answer
        return
    if _is_european(reference, question):
        yield _english(reference), _english(answer)
        if _EUROPEAN.fullmatch(reference):
            return
    if not (_GROUPS.fullmatch(reference) or (_GROUPS.fullmatch(answer) and "," in reference)):
        yield reference, answer
        return
    may_be_list = _FULL_GROUPS.fullmatch(reference) and not _ROUND.fullmatch(reference)
    if not may_be_list or _GROUPS.fullmatch(answer) or _ONE_NUMBER.search(question):
        yield reference, answer
    if not _LEADING_ZERO.search(reference):
        yield _listed(reference), _listed(answer)


def _listed(text: str) -> str:
    return text.replace(",", ", ") if _GROUPS.fullmatch(text) else text


def _is_european(reference: str, question: str) -> bool:
    """Return True if its comma can only be a decimal one: after a 0 or groups of thousands, before a unit, or where the
    question asks for one number or writes decimals so. Without a question, two digits behind it are cents."""
    if _EUROPEAN.fullmatch(reference):
        return True
    match = _DECIMAL_COMMA.fullmatch(reference)
    if match is None:
        return reference.replace(".", "", 1).isdecimal() and _COMMA_IN_QUESTION.search(question) is not None
    if not question:
        return bool(match[4]) or len(match[3]) == 2
    return bool(match[4] or len(_ONE_NUMBER.findall(question)) == 1 or _COMMA_IN_QUESTION.search(question))


def _english(text: str) -> str:
    match = _EUROPEAN.fullmatch(text) or _DECIMAL_COMMA.fullmatch(text)
    return text if match is None else f"{match[1]}{match[2].replace('.', '')}.{match[3]}{match[4]}"
