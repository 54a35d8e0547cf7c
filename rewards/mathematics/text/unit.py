"""The unit at an answer's end, and the words there that are none: "5 miles per hour" has one, "5 or more" is not 5."""

import re
from functools import lru_cache

from rewards.mathematics.expressions.tree import Unparsable
from rewards.mathematics.text.chinese_units import chinese_unit, is_chinese
from rewards.mathematics.text.normalize import KNOWN_WORDS, words
from rewards.mathematics.text.number_words import NUMBER_WORDS, TENS

# Words that turn a number into another statement. None of these is a unit.
NOT_UNITS = words(
    "or and if not when for otherwise plus minus times more less than to between at least most until unless but "
    "except over under above below nor neither never divided multiplied mod modulo squared cubed half halves "
    "third thirds quarter quarters fourth fourths fifth fifths tenth tenths hundredths base choose factorial "
    "dozen score gross pair pairs fewer thousandth thousandths millionth millionths "
    "percent is are was were isn't aren't wrong incorrect false true also then with without approximately about "
    "sixth sixths seventh sevenths eighth eighths ninth ninths twelfth twelfths tens grand k mil mils mill mille bn mn "
    "mio mrd lakh lakhs crore crores tausend hundert millionen millones milliard milliards milliarden cientos permille "
    "reject rejected extraneous invalid discard discarded excluded percents percentages dozens scores grosses couples "
    "couple trios squares cubes powers roots inverses reciprocals negatives opposites multiples factors "
    "factorials doubles "
    "triples quadruples tenths twentieths myriads percentage nanos micros millis kilos megas gigas googols perhaps "
    "maybe possibly probably supposedly too"
)
_CHANGED = re.compile(
    r"\b(?:basis points?|(?-i:[KMBT])\b|(?:negative|opposite|inverse|reciprocal|negated|reversed|backwards|loss|debt|"
    r"deficit|doubled?|tripled?|twice|thrice|root|power|remainder|recurring|repeating|repeated|hex|hexadecimal|binary|"
    r"octal)\W*$)|\bnegative ones?\b",
    re.IGNORECASE,
)
"""Words that make another number of the one before them. "5 negative integers" are five, "5 negative" is not."""
SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12, "万": 4, "亿": 8}
SHORT_UNITS = words(
    "cm mm km dm nm in ft yd mi kg mg lb oz hr hrs min mins sec secs ml cl dl kl mph kph kmph km/h m/s cm/s "
    "ft/s am pm hz "
    "kw mw kj ha sq cu pt qt gal lbs yds kgs usd eur gbp cad inr rad deg units yr yrs wk wks gm gms gb mb kb "
    "tb kwh kpa "
    "mol cc mcg cds ohm rs erg ergs km/s m/min"
)
ALIASES = {
    "¤": "dollar", "$": "dollar", "usd": "dollar", "€": "euro", "eur": "euro", "£": "pound", "gbp": "pound", "¥": "yen",
    "₹": "rupee", "¢": "cent", "°": "degree", "deg": "degree", "in": "inch", "inche": "inch", "ft": "foot",
    "feet": "foot",
    "yd": "yard", "mi": "mile", "cm": "centimeter", "centimetre": "centimeter", "mm": "millimeter", "metre": "meter",
    "km": "kilometer", "kilometre": "kilometer", "kg": "kilogram", "mg": "milligram", "lb": "pound", "oz": "ounce",
    "hr": "hour", "min": "minute", "sec": "second", "ml": "milliliter", "m": "meter", "g": "gram", "s": "second",
    "yr": "year", "wk": "week", "rad": "radian", "lbs": "pound", "kgs": "kilogram", "hrs": "hour", "yds": "yard",
    "yrs": "year", "wks": "week",
    "sq": "square", "litre": "liter", "l": "liter", "h": "hour", "mph": "mile /hour",
    "kph": "kilometer /hour", "kmph": "kilometer /hour", "cu": "cubic", "gm": "gram", "gms": "gram", "secs": "second",
    "mins": "minute", "rs": "rupee", "inr": "rupee", "gb": "gigabyte", "mb": "megabyte", "kb": "kilobyte",
}  # fmt: skip
_MEASURES = frozenset(w for alias in ALIASES.values() for w in alias.split()) | words(
    "day week month year unit nautical metric imperial troy fluid light celsius fahrenheit kelvin board byte "
    "acre hectare "
    "yuan jiao decimeter ton tonne penny nickel dime quart pint gallon knot calorie volt watt ampere joule newton"
)
MEASURES = _MEASURES | {f"/{word}" for word in _MEASURES}
"""Units whose every word counts: miles are not miles per hour, and cm are not cm^2. A measure below the line (per hour)
begins with a slash."""
_FIGURES = NUMBER_WORDS.keys() | TENS.keys()
_CURRENCY = re.compile(r"^([+-]?) ?([¤€£¥₹]) ?(?=[-+.\d\\])|(?<=[\d}]) ?([¤€£¥₹¢])$")
_CURRENCY_WORD = re.compile(
    r"^([+-]?) ?(?:\\text\{ ?)?(rs|inr|usd|us ?¤|eur|gbp)\.? ?\}? ?(?=[-+.\d\\])", re.IGNORECASE
)
_CHINESE = re.compile(r"(?<=[\d}]) ?([\u4e00-\u9fff]{1,8})$")
_UNIT_TEXT = re.compile(r"(?<=[^\s]) ?\\text\{([^{}]*)\} ?(?:\^ ?\{? ?([23]) ?\}?)?$")
_UNIT_WORDS = re.compile(r"(?<=[\d}\])!%°π]) ?([A-Za-z][A-Za-z'/. -]*[A-Za-z])\.? ?(?:\^ ?\{? ?([23]) ?\}?)?$")
_NO_UNIT = re.compile(r"[^\w\s'./()-]|\d|_|[^\W\d_A-Za-z\u00c0-\u024f]")
"""Characters that no unit holds: figures, signs, and letters that are not Latin."""
_UNIT_SIGNS = frozenset("°¤€£¥₹¢$")
_DEGREES = re.compile(r" ?° ?(?:\\text\{ ?)?([CF]?)(?:(?<=[CF]) ?\})?$")
_TEMPERATURES = {"C": "celsius", "F": "fahrenheit"}
_ANGLE = re.compile(r"(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_IRREGULAR = words(
    "people children men women feet inches mice teeth geese fish sheep deer dice oxen units times cents persons person "
    "currency students money each total degrees pence cattle"
)
_POSTPOSED = words(
    "of in per each for a an the every on at to from by tall long high wide deep old away left remaining total "
    "altogether apart later earlier ago early late together long remain"
)
_GENERIC = frozenset(_IRREGULAR) | words(
    "way value solution number integer digit item piece point pair time student kid adult boy girl kind people member "
    "possibility combination arrangement permutation choice element subset set triangle square face edge side line "
    "segment divisor factor multiple root zero prime term case outcome sequence function path route step move turn "
    "game round match team player card coin bill note book page word letter day night trip mile lap stop seat room "
    "house car bus train animal pet dog cat bird tree flower fruit egg box bag bottle can cup glass plate bowl jar "
    "basket row column table chair ticket question problem point percent unit more "
)
"""Things counted so often that a question need not have the word."""
_BEFORE_MEASURE = words("square sq cubic cu total whole full american us extra additional of")


def split_unit(text: str) -> tuple[str, frozenset[str], int]:
    """The text without its unit, the unit's words, and the power of ten that words like ``million`` stand for.

    A word that is no unit known here has a ``?`` before it: it is one only if the question or the reference has it.
    """
    units, scale = set[str](), 0
    for _ in range(3):
        if (money := _CURRENCY.search(text) or _CURRENCY_WORD.search(text)) is not None:
            currency = next(g for g in money.groups()[1:] if g).lower()
            units.add(ALIASES.get(currency, "dollar"))
            text = (text[: money.start()] + (money[1] or "") + text[money.end() :]).strip()
        elif (degrees := _DEGREES.search(text)) is not None and not _ANGLE.search(text):
            units.update(w for w in ("degree", _TEMPERATURES.get(degrees[1])) if w)
            text = text[: degrees.start()].strip()
        elif (match := _UNIT_TEXT.search(text) or _UNIT_WORDS.search(text) or _CHINESE.search(text)) is not None:
            written = text[match.start() : match.start() + 1]
            words = _unit_words(match[1], is_text="\\text" in match[0], spaced=written in " \\")
            if words is None:
                break
            scale += sum(SCALES[w] for w in words if w in SCALES)
            units.update(w for w in words if w not in SCALES)
            if match.re is not _CHINESE and match[2]:
                units.add("square" if match[2] == "2" else "cubic")
            text = text[: match.start()].strip()
        else:
            break
    return text, frozenset(units), scale


def _unit_words(text: str, *, is_text: bool, spaced: bool) -> list[str] | None:
    """The words of a unit in the singular, with a slash before a measure that something is counted per; None when they
    may be variables or functions beside the number."""
    for sign in _UNIT_SIGNS.intersection(text):
        text = text.replace(sign, f" {ALIASES[sign]} ")
    if is_chinese(text) and (unit := chinese_unit(text)) is not None:
        return unit
    if _NO_UNIT.search(text.rstrip(" .,;:")):
        raise Unparsable("signs or figures among the words")  # \text{,000} and \text{ cm 3} change what is said
    tokens = _without_times(re.findall(r"[^\W\d_][^\W\d_'-]*(?:-[^\W\d_]+)*|/", text.lower()))
    if not tokens:
        return []
    if tokens[0] in KNOWN_WORDS - {"min"}:
        return None
    _check_words(tokens, text)
    if _may_be_variables(tokens, is_text=is_text, spaced=spaced):
        return None
    return ["inch"] if tokens == ["in"] else [*_unknown_head(tokens), *_counted(tokens)]


def _may_be_variables(tokens: list[str], *, is_text: bool, spaced: bool) -> bool:
    """Return True if a word is rather a product of variables: 5 x y, 5ab and 5xyz have no unit."""
    if spaced and "".join(tokens) in SHORT_UNITS:
        return False
    if len(tokens[0]) == 3 and tokens[0] not in SHORT_UNITS and not spaced:
        return True
    plain = [w for at, w in enumerate(tokens) if w != "/" and not _is_article(tokens, at)]
    return not all(_may_be_unit(w, is_text) for w in plain)


def _without_times(tokens: list[str]) -> list[str]:
    """The words without the "times" of "it rang 22 times a day"."""
    if "times" in tokens and (tokens[-1] == "times" or tokens[tokens.index("times") + 1] in ("a", "per", "each", "in")):
        tokens.remove("times")
    return tokens


def _check_words(tokens: list[str], text: str) -> None:
    """Raise `Unparsable` for words that make another statement of the number before them."""
    parts = [p for word in tokens for p in word.split("-")]
    if (
        any(w in NOT_UNITS or w in KNOWN_WORDS - {"min", "sec"} for w in parts)
        or "base" in tokens
        or _CHANGED.search(text)
    ):
        raise Unparsable("words that change what the number says")
    if tokens[-1] in _FIGURES or (tokens[0] in _FIGURES and "-" not in text):
        raise Unparsable("a number in words beside one in figures")


def _unknown_head(tokens: list[str]) -> list[str]:
    """The word that is counted, with a ``?`` before it, unless it is a measure or a plural; and an unknown word that
    stands before a measure, as in nautical miles."""
    end = next((at for at, word in enumerate(tokens) if word in _POSTPOSED or word == "/"), len(tokens))
    head = tokens[:end]
    if not head:
        return [f"?{tokens[-1]}"] if tokens[-1] in ("in", "on") else []
    unknown = [] if _is_unit(head[-1]) else [head[-1]]
    if is_measure(head[-1]):
        unknown += [w for w in head[:-1] if not (is_measure(w) or w in _BEFORE_MEASURE or w in SCALES)]
    return [f"?{singular(w)}" for w in unknown]


def is_measure(word: str) -> bool:
    """Return True for a measure, in the singular or plural, in full or short."""
    return bool(_MEASURES.intersection(_alias(singular(word)).split())) or word in SHORT_UNITS


def _is_unit(word: str) -> bool:
    plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is", "ous"))
    return is_measure(word) or plural or word in _IRREGULAR or word in SCALES


def _is_article(tokens: list[str], at: int) -> bool:
    """Return True for the "a" of "a day" or "times a week", and not a variable."""
    return tokens[at] in ("a", "an") and len(tokens) > at + 1 and (at > 0 or _alias(tokens[1]) in _MEASURES)


def _counted(tokens: list[str]) -> list[str]:
    """The words that count, as `_unit_words` returns them."""
    kept, below = list[str](), False
    for word in tokens:
        below = below or word in ("/", "per", "a", "an", "each")
        if word not in ("of", "the", "a", "an", "per", "each", "in", "total", "long", "/"):
            kept += [f"/{w}" if below and w in _MEASURES else w for w in _alias(singular(word)).split()]
    return kept


def _alias(word: str) -> str:
    return ALIASES.get(word, word)


def _may_be_unit(word: str, is_text: bool) -> bool:
    """Return False for a product of variables: 5 x y, 5ab and 5 xyz have no unit."""
    if len(word) == 1:
        return is_text and word in ALIASES
    if len(word) == 2:
        return word in SHORT_UNITS or word in ("of", "in", "on", "at", "an", "to", "by")
    return len(word) > 3 or word in SHORT_UNITS or re.search("[aeiou]", word) is not None


def singular(word: str) -> str:
    """The word without the ending of a plural, if it seems to have one."""
    if len(word) > 4 and word.endswith(("xes", "ches", "shes", "sses")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def units_agree(reference: frozenset[str], answer: frozenset[str], question: str = "") -> bool:
    """A unit may be left out, and eggs may be eggs per day; of measures, every word counts. A word that is no known
    unit has to be the question's or the reference's."""
    unknown = {word for word in answer if word.startswith("?")} - reference
    if unknown and not unknown <= _question_units(question) | {f"?{w}" for w in reference}:
        return False
    left, right = (frozenset(w for w in unit if not w.startswith("?")) for unit in (reference, answer))
    counted = frozenset(w for w in right if not w.startswith("/")) - MEASURES - _GENERIC
    if question and counted and not any(f"?{w}" in _question_units(question) or w in left for w in right - MEASURES):
        return False
    if not left or not right:
        return True
    return (left <= right or right <= left) and left & MEASURES == right & MEASURES


@lru_cache(512)
def _question_units(question: str) -> frozenset[str]:
    return frozenset(f"?{singular(w)}" for w in re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", question.lower()))
