"""Reads what is written otherwise in daily life: times, dates, degrees with minutes, the sides of a rectangle."""

import re
from fractions import Fraction

from rewards.expression import Number, Symbol, Unparsable
from rewards.shapes import Answer, Items, Ratio, Read, Scalar, Words

_CLOCK = re.compile(r"^\d{1,2}: ?\d\d(?::\d\d)?(?: ?(?:[ap]\.?m\.?|\\text\{ ?[ap]\.?m\.? ?\}))?$", re.IGNORECASE)
_MINUTES = re.compile(
    r"^([+-]?)(\d{1,9})° ?(\d{1,2}(?:\.\d{1,12})?) ?(?:'|\^ ?\{ ?\\prime ?\})"
    r"(?: ?(\d{1,2}(?:\.\d{1,12})?) ?(?:''|\"|\^ ?\{ ?\\prime ?\\prime ?\}))?$"
)
"""Degrees, minutes and seconds."""
_SIDE = r"([^*,]{1,20}?) ?(\\text\{ ?[a-z]{1,12} ?\})"
_BY = re.compile(r"\\text\{ ?([a-z]{1,12}) (?:by|x) ?\} ?")
_SIDES = re.compile(rf"^{_SIDE} ?(?:\*|x|by|\\text\{{ ?(?:by|x) ?\}}) ?{_SIDE}$")
"""The sides of a rectangle, each with its unit: 10 ft by 18 ft."""
_MONTH = (
    r"(?P<month{}>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"(?P<day{}>\d{{1,2}})(?:st|nd|rd|th)?"
_DATE = re.compile(
    rf"^(?:{_MONTH.format(1)} {_DAY.format(1)}|{_DAY.format(2)} (?:of )?{_MONTH.format(2)})"
    r"(?:,? (?P<year>\d{4}))?$",
    re.IGNORECASE,
)


def clock(text: str, read: Read) -> Answer | None:
    """A time of day."""
    if not _CLOCK.match(text):
        return None
    digits = [Number(Fraction(int(d))) for d in re.findall(r"\d+", text)]
    halves = [Symbol(f"{half}m") for half in re.findall(r"[ap](?=\.?m)", text.lower())]
    return Ratio((*digits, *halves), clock=True)


def date(text: str, read: Read) -> Answer | None:
    """A day of a month, perhaps of a year, whichever comes first."""
    match = _DATE.match(text.replace("\\text{", "").replace("}", ""))
    if match is None:
        return None
    month, day = match["month1"] or match["month2"], match["day1"] or match["day2"]
    return Words(f"{month[:3].lower()} {int(day)} {match['year'] or ''}".strip())


def minutes(text: str, read: Read) -> Answer | None:
    """``63° 45'``: degrees with minutes and seconds, as a number of degrees."""
    match = _MINUTES.match(text)
    if match is None:
        return None
    sixtieths, seconds = Fraction(match[3]), Fraction(match[4] or 0)
    if sixtieths >= 60 or seconds >= 60:
        raise Unparsable("more than 60 minutes or seconds")
    value = int(match[2]) + sixtieths / 60 + seconds / 3600
    return Scalar(Number(-value if match[1] == "-" else value), frozenset(["degree"]))


def sides(text: str, read: Read) -> Answer | None:
    """``10 ft by 18 ft``: two lengths, in any order."""
    match = _SIDES.match(_BY.sub(r"\\text{\1} by ", text))
    if match is None:
        return None
    return Items("", "", (read(f"{match[1]} {match[2]}"), read(f"{match[3]} {match[4]}")))
