"""Reads what is written otherwise in daily life: times, dates, degrees with minutes, the sides of a rectangle."""

import re
from fractions import Fraction

from rewards.mathematics.expressions.shapes import Answer, Items, Ratio, Read, Scalar, Words
from rewards.mathematics.expressions.tree import Number, Symbol, Unparsable
from rewards.mathematics.text.unit import ALIASES

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
    r"(?P<month{}>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"(?P<day{}>\d{{1,2}})(?:st|nd|rd|th)?"
_DATE = re.compile(
    rf"^(?:{_MONTH.format(1)} {_DAY.format(1)}|{_DAY.format(2)} (?:of )?{_MONTH.format(2)})"
    r"(?:,? (?P<year>\d{4}))?$",
    re.IGNORECASE,
)
_SIZES = (
    {"day": 24, "hour": 60, "minute": 60, "second": 1}, {"yard": 3, "foot": 12, "inch": 1}, {"pound": 16, "ounce": 1},
    {"dollar": 100, "cent": 1}, {"kilometer": 1000, "meter": 100, "centimeter": 10, "millimeter": 1},
    {"kilogram": 1000, "gram": 1}, {"year": 12, "month": 1}, {"week": 7, "day": 1},
)  # fmt: skip
"""Measures from the largest on, with how many of the next each is."""
_AMOUNT = r"(\d{1,9}) ?([a-z]{1,12})\.?"
_AMOUNTS = re.compile(rf"^{_AMOUNT},? ?{_AMOUNT}$", re.IGNORECASE)


def clock(text: str, read: Read) -> Answer | None:
    """A time of day."""
    if not _CLOCK.match(text):
        return None
    hour, *rest = map(int, re.findall(r"\d+", text))
    halves = re.findall(r"[ap](?=\.?m)", text.lower())
    if halves == ["p"] and hour < 12:
        hour, halves = hour + 12, []  # half past three is 15:30, which may be a ratio, too
    return Ratio((*(Number(Fraction(n)) for n in (hour, *rest)), *(Symbol(f"{h}m") for h in halves)), clock=True)


def date(text: str, read: Read) -> Answer | None:
    """A day of a month, perhaps of a year, whichever comes first."""
    match = _DATE.match(" ".join(text.replace("\\text{", "").replace("}", "").split()))
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


def amount(text: str, read: Read) -> Answer | None:
    """``2 hours 30 minutes``, ``5 ft 8 in``: an amount of a measure and the rest in the next one."""
    match = _AMOUNTS.match(" ".join(re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text).split()))
    if match is None:
        return None
    first, second = (
        ALIASES.get(w, ALIASES.get(w.rstrip("s"), w.rstrip("s"))) for w in (match[2].lower(), match[4].lower())
    )
    for sizes in _SIZES:
        names = list(sizes)
        if first in names[:-1] and names[names.index(first) + 1] == second and int(match[3]) < sizes[first]:
            pairs = ((match[1], first), (match[3], second))
            return Items("", "", tuple(Scalar(Number(Fraction(int(n))), frozenset([unit])) for n, unit in pairs))
    return None


def sides(text: str, read: Read) -> Answer | None:
    """``10 ft by 18 ft``: two lengths, in any order."""
    match = _SIDES.match(_BY.sub(r"\\text{\1} by ", text))
    if match is None:
        return None
    return Items("", "", (read(f"{match[1]} {match[2]}"), read(f"{match[3]} {match[4]}")))
