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
"""Words before a box that is not the answer."""
_NO = re.compile(
    r"(?:[\s$.)\]\\*]|\\text)*(?:,?\s*(?:which|that|but (?:it|that|this))\s+)?(?:\?|(?:is|was|would be|are|"
    r"seems|looks|must be)\s+(?:obviously |clearly |definitely )?"
    rf"(?:{_DOUBT}|not\s+(?:right|correct|valid|possible|(?:the|a|an|our|my)\s+(?:\w+\s+)?(?:answer|solution|"
    rf"result)))\b|"
    rf"\(?(?:{_DOUBT})\b|n['’]t\b)",
    re.IGNORECASE,
)
"""Words after an answer that is only asked about, or taken back."""
_OPENING = r"(?:\\[\])]|[\s$.,;:!)\]*_~–—…-])*"
_INTERJECTION = (
    r"(?:(?:but|and|hmm|oh|well|ah|however|unfortunately|no|wait|hold on|sorry|oops|actually|or)\b[\s,.!…-]*)*"
)
_THAT = (
    r"(?:that|this|it|which|the above|that answer|this answer|the answer(?: above)?)"
    r"(?:['’]s| is| was| seems| must be| would be)? (?:also |clearly |obviously |definitely |probably )?"
)
_RETRACTIONS = (
    r"(?:just kidding|jk\b|scratch that|strike that|never ?mind|ignore (?:that|this|the)|disregard|april fool)",
    r"i (?:take|took) (?:it|that|this) back",
    r"i (?:was|am|might be|may be) (?:wrong|mistaken|lying|joking|not sure)",
    r"i made (?:a|an) (?:\w+ )?(?:mistake|error)",
    r"on second thought",
    rf"{_THAT}(?:{_DOUBT}|not (?:right|correct|the answer|it|possible|valid)|right\?|a (?:mistake|lie|joke|guess))",
    rf"{_THAT}(?:can(?:not|['’]t) be|could(?: not|n['’]t) be) (?:right|correct|true|it)",
    rf"{_THAT}(?:fails|contradicts|does(?: not|n['’]t) (?:work|fit|hold|satisfy))",
    r"(?:maybe |perhaps |probably |definitely |certainly )?not\b",
    r"should(?: have)? be(?:en)? ",
    r"correction\b",
)
"""How the next sentence takes an answer back."""
_CORRECTED = re.compile(f"{_OPENING}{_INTERJECTION}(?:{'|'.join(_RETRACTIONS)})", re.IGNORECASE)
_ACTUALLY = re.compile(
    rf"{_OPENING}(?:but |hmm,? |oh,? )*(?:wait|no|actually|oops|sorry)\b[\s,.!…-]*(?:actually |no,? |wait,? )*"
    r"(?:it(?:['’]s| is| should be| must be)|the answer (?:is|should be)|that(?:['’]s| is) (?!correct|right|it\b)|"
    r"i (?:mean|meant)|make that|let me correct)",
    re.IGNORECASE,
)
DOUBTED = re.compile(
    rf",? \(?(?:which|that|but it|but that|and it)\s+(?:is|was|seems) (?:clearly )?(?:{_DOUBT}|not (?:right|correct))"
)
"""A clause that takes back the answer before it in the same sentence."""
_SUPPOSED = re.compile(
    r"\b(?:suppose|supposing|assum(?:e|ing)|if|imagine|let us say|let's say|say|hypothetically|pretend|"
    r"guess(?:ing)?|conjecture|were)\b[^.\n]*$",
    re.IGNORECASE,
)


def is_taken_back(text: str, end: int) -> bool:
    """Return True if the words right after an answer ask about it or deny it."""
    return _NO.match(text, end, end + 80) is not None


def is_corrected(text: str, end: int) -> bool:
    """Return True if the next sentence takes an answer back: "just kidding", "that is wrong"."""
    following = text[end : end + 200]
    return any(pattern.match(following) for pattern in (_CORRECTED, _ACTUALLY))


def is_supposed(text: str, start: int) -> bool:
    """Return True if the sentence before only supposes what follows."""
    return _SUPPOSED.search(text[max(0, start - 60) : start]) is not None
