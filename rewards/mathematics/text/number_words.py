"""Numbers in English words: ``forty-two`` is 42, ``negative two thirds`` is -2/3."""

from fractions import Fraction

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
NUMBER_WORDS = {word: n for n, word in enumerate(_SMALL.split())}
TENS = {word: 10 * n for n, word in enumerate(["thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 3)}
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth"
)
_ORDINAL_WORDS = {word: n for n, word in enumerate(_ORDINALS.split(), 1)}
_ORDINAL_TENS = {f"{word[:-1]}ieth": n for word, n in TENS.items()}
_PARTS = {
    "half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10,
}  # fmt: skip


def signed_number_in_words(text: str) -> Fraction | None:
    """The value of a whole number or a fraction in words, with its sign; None when the words are not one number."""
    sign = -1 if text.startswith(("negative ", "minus ")) else 1
    text = text.split(" ", 1)[1] if sign < 0 else text
    whole = number_in_words(text)
    value = _mixed_in_words(text) if whole is None else Fraction(whole)
    return None if value is None else sign * value


def ordinal_in_words(text: str) -> int | None:
    """The number of "third" or "the twenty-first"; None for other words, and for "one third"."""
    words = text.lower().removeprefix("the ").replace("-", " ").split()
    tens = {"twenty": 20} | TENS
    if len(words) == 2 and words[0] in tens and _ORDINAL_WORDS.get(words[1], 10) < 10:
        return tens[words[0]] + _ORDINAL_WORDS[words[1]]
    return _ORDINAL_WORDS.get(words[0], _ORDINAL_TENS.get(words[0])) if len(words) == 1 else None


def _mixed_in_words(text: str) -> Fraction | None:
    """Two thirds, half, or two and a half."""
    if text == "half":
        return Fraction(1, 2)
    whole, joined, part = text.rpartition(" and ")
    value, number = _fraction_in_words(part.split()), number_in_words(whole)
    if joined and (number is None or number == 0 or value is None):
        return None
    return value if value is None or number is None else number + value


def _fraction_in_words(words: list[str]) -> Fraction | None:
    """One half, two thirds; "third" alone may be an ordinal."""
    if len(words) != 2 or (words[1].endswith("s") and words[0] in ("a", "one")):
        return None
    top = 1 if words[0] == "a" else NUMBER_WORDS.get(words[0], 0)
    bottom = _PARTS.get(words[1].removesuffix("s"), 0)
    return Fraction(top, bottom) if 0 < top < bottom else None


def number_in_words(text: str) -> int | None:
    """The value of words separated by spaces; None when they are not one number.

    Example: ``number_in_words("three hundred and five")`` is 305.
    """
    all_words = text.split()
    if not all_words or len(all_words) > 20:
        return None
    total, hundreds, last = 0, 0, 10**15
    group = list[str]()
    for word in all_words:
        if word not in _LARGE:
            group.append(word)
            continue
        hundreds = _below_thousand(group) if group else None
        if not hundreds or _LARGE[word] >= last:
            return None
        total, last, group = total + hundreds * _LARGE[word], _LARGE[word], []
    rest = _below_thousand(group) if group else 0
    return None if rest is None else total + rest


def _below_thousand(group: list[str]) -> int | None:
    if "hundred" in group:
        at = group.index("hundred")
        rest = group[at + 1 :]
        rest = rest[1:] if len(rest) > 1 and rest[0] == "and" else rest
        front, back = _below_hundred(group[:at]), _below_hundred(rest) if rest else 0
        return None if front is None or not 0 < front < 10 or back is None else 100 * front + back
    return _below_hundred(group[1:] if len(group) > 1 and group[0] == "and" else group)


def _below_hundred(group: list[str]) -> int | None:
    match group:
        case [word]:
            return NUMBER_WORDS.get(word, TENS.get(word))
        case [tens, digit] if tens in TENS or tens == "twenty":
            value = NUMBER_WORDS.get(digit, 0)
            return TENS.get(tens, 20) + value if 0 < value < 10 else None
        case _:
            return None
