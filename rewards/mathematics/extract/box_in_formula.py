"""Other things in the formula of a box: ``$\\boxed{42}!$`` and ``$41, \\boxed{42}$`` are not 42.

In prose a sign behind a box may be punctuation; between dollar signs it is mathematics. Few things may follow there.
"""

import re

MAX_WINDOW = 1_500
_MARK = re.compile(
    r"\\\\|\\\$|(?P<dollar>\$+)|(?P<open>\\[(\[]|\\begin\{(?:align|equation|gather|multline)\*?\})"
    r"|(?P<close>\\[)\]]|\\end\{(?:align|equation|gather|multline)\*?\})|(?P<paragraph>\n\s*\n)"
)
_END = re.compile(r"\$|\\[)\]]|\\end\{|\\\\|\n\s*\n|\Z")
_SPACE = r"(?:[\s})\]~]|\\[,;:! ]|\\right(?![A-Za-z])|\\(?:displaystyle|hfill)(?![A-Za-z]))*"
_FOLLOWS = re.compile(
    rf"{_SPACE}(?:$|[.;?](?:\s|$)|[=≈&%°]|,(?!\s*(?:\\[,;: ]\s*)*[-\d({{])|[-–—]\s|\\[%$]"
    r"|/?\s*\\(?:text[a-z]{0,6}|mathrm|mathsf|mbox|operatorname)"
    r"\s*\{(?!\s*(?:or|and|if|unless|vs\.?|versus|to|plus|minus|times|mod)\b(?!.{0,12}\\f?boxed))"
    r"|\\q?quad(?![A-Za-z])(?!\s*[-\d])|\(\s*\\text|\^\s*\{?\s*(?:\\circ|°|o\b|(?:\\text\s*\{?\s*)?(?:st|nd|rd|"
    r"th)\b|\\text)"
    r"|\\(?:f?boxed|approx|simeq|cong|equiv|pmod|implies|Rightarrow|Longrightarrow|rightarrow|iff|therefore|qed|"
    r"square|Box|"
    r"blacksquare|checkmark|tag|label|circ|degree|rm|sf|bf|in|euro|cm|km|mm|kg|land|lor|wedge|vee)(?![A-Za-z])"
    r"|[a-z]{2,})"
)
"""Things that may follow a box in its formula: the end, an equation that goes on, a unit, words, another box."""
_OPTION = re.compile(r"\{\s*(?:\\(?:text|math)[a-z]{0,6}\s*\{)?\s*\(?[A-J]\)?[\s.}]*$")
"""A box with an option's letter, whose text may follow."""
_OTHER_OPTION = re.compile(rf"{_SPACE}(?:[,;/&|]|\\text\s*\{{\s*(?:or|and)\s*\}})?{_SPACE}\(?[A-J]\)?(?![A-Za-z])")
_LISTED = re.compile(r"(?<![A-Za-z_])-?\d+(?:\.\d+)?\s*[,;]\s*(?:\\[,;: ]\s*)*$")
"""A number that is listed before a box."""


def is_continued(text: str, start: int, end: int) -> bool:
    """Return True if a box from ``start`` to ``end`` is one of several things in a formula."""
    opening = _opening(text, start)
    if opening is None:
        return False
    stop = _END.search(text, end)
    rest = text[end : end if stop is None else stop.start()]
    if _OPTION.search(text, start, end):
        return _OTHER_OPTION.match(rest) is not None
    if re.search(r"(?<![\\A-Za-z{])[A-Za-z]{3,}\s", rest):
        return False  # prose between two sums of money
    return _FOLLOWS.match(rest) is None or _LISTED.search(text, opening, start) is not None


def _opening(text: str, start: int) -> int | None:
    """Return the place where the formula around another begins; None outside of formulas."""
    place: int | None = None
    for mark in _MARK.finditer(text, max(0, start - MAX_WINDOW), start):
        if mark["dollar"]:
            place = mark.end() if place is None else None
        elif mark["open"]:
            place = mark.end()
        elif mark["close"] or mark["paragraph"]:
            place = None
    return place
