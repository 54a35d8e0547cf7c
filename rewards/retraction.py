"""Answers that are taken back, asked about or only supposed."""

import re

_DOUBT = (
    r"(?:wrong|incorrect|false|impossible|invalid|extraneous|rejected|mistaken|nonsense|"
    r"too (?:big|large|small|low|high))"
)
DENIED = re.compile(
    r"(?:\bnot|n['’]t|\bnever|\bcannot|\bexcept|\banything but)\s+(?:be\s+|equal(?:s|\s+to)?\s+)?(?:\$|\\\(|"
    r"\\\[|[*(])*$",
    re.IGNORECASE,
)
"""What stands before a box that is not the answer."""
_NO = re.compile(
    r"(?:[\s$.)\]\\*]|\\text)*(?:\?|(?:is|was|would be|are|seems|looks|must be)\s+(?:obviously |clearly |definitely )?"
    rf"(?:{_DOUBT}|not\s+(?:right|correct|valid|possible|(?:the|a|an|our|my)\s+(?:\w+\s+)?(?:answer|solution|"
    rf"result)))\b|"
    rf"\(?(?:{_DOUBT})\b|n['’]t\b)",
    re.IGNORECASE,
)
"""What follows an answer that is only asked about, or taken back."""
_CORRECTED = re.compile(
    r"^(?:\\[\])]|[\s$.,;:!)\]*_~–—…-])*(?:but |and |hmm,? |oh,? |well,? |ah,? |however,? |unfortunately,? |no,? )*"
    r"(?:(?:wait|no|hold on|sorry|oops|actually|hmm)\b[\s,.!…-]*)*"
    r"(?:just kidding|jk\b|scratch that|strike that|never ?mind|ignore (?:that|this|the)|disregard|i (?:take|"
    r"took) (?:it|that|this) back|"
    r"i (?:was|am|might be|may be) (?:wrong|mistaken|lying|joking|not sure)|i made (?:a|"
    r"an) (?:\w+ )?(?:mistake|error)|on second thought|"
    r"(?:that|this|it|which|the above|that answer|this answer|the answer(?: above)?)(?:'s|’s| is| was| seems|"
    r" must be| can'?t be| cannot be| would be)? "
    rf"(?:(?:also |clearly |obviously |definitely |probably )?(?:{_DOUBT}|not (?:right|correct|the answer|it|"
    rf"possible|valid)|right\?|"
    r"a (?:mistake|lie|joke|guess))|fails|does(?: not|n'?t) (?:work|fit|hold|satisfy)|contradicts)|"
    r"(?:actually|no|wait),? (?:it(?:'s| is| should be| must be)|the answer (?:is|should be)|that(?:'s| is)|"
    r"i (?:mean|meant)|make that|let me correct)|"
    r"should(?: have)? be(?:en)? |correction\b|april fool)",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"\b(?:suppose|supposing|assum(?:e|ing)|if|imagine|let us say|let's say|say|hypothetically|pretend|"
    r"guess(?:ing)?|conjecture|were)\b[^.\n]*$",
    re.IGNORECASE,
)


def is_taken_back(text: str, end: int) -> bool:
    """Whether what follows right after an answer asks about it or denies it."""
    return _NO.match(text, end, end + 80) is not None


def is_corrected(text: str, end: int) -> bool:
    """Whether the next sentence takes an answer back: "just kidding", "that is wrong"."""
    return _CORRECTED.match(text[end : end + 200]) is not None


def is_supposed(text: str, start: int) -> bool:
    """Whether the sentence before only supposes what follows."""
    return _SUPPOSED.search(text[max(0, start - 60) : start]) is not None
