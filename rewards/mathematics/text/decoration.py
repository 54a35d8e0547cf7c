"""Answers as data sets and models decorate them: a unit in brackets, an option in text, a number said twice."""

import re

from rewards.mathematics.expressions.tree import Unparsable
from rewards.mathematics.text.extremum import with_named_extrema
from rewards.mathematics.text.number_words import number_in_words
from rewards.mathematics.text.program_notation import from_program
from rewards.mathematics.text.unit import split_unit

_UNIT = re.compile(
    r"^(?P<value>[-+$]*[\d.(][\d.,/:() ]*(?:%|[ap]\.?m\.?)?) ?\((?P<unit>[A-Za-z][A-Za-z .,'/²³-]{0,40})\)$"
)
_CHINESE = re.compile(r"^(?:最终)?(?:答案|答)(?:就?是|应?为|：|:)+\s*([^，。]{1,200})。?$")
_ROUGHLY = re.compile(
    r"(?<=[\d}$]) ?(?:\\text\{ ?)?\((?:approx(?:imately|\.)?|rounded|exactly?)\)(?: ?\})?$", re.IGNORECASE
)
_FIGURES_FIRST = re.compile(
    r"^(?P<figures>\d[\d,]{0,20}) ?(?:\\text\{ ?)?\((?P<words>[A-Za-z][A-Za-z -]{0,100})\)(?: ?\})?$"
)
_WORDS_FIRST = re.compile(r"^(?P<words>[A-Za-z][A-Za-z -]{0,100}) \((?P<figures>\d[\d,]{0,20})\)$")
_ONE_LETTER = re.compile(r"\\(?:text|mathrm)\{ ?([a-z]) ?\}( ?\^ ?\{?[23]\}?)?$")
_LETTER = re.compile(r"^\(\s*\\(?:text|textbf|mathrm|mathbf)\s*\{\s*([A-J])\s*\}\s*\)$")
_BOTH = re.compile(
    r"^\$?.*(?:[<>≤≥]|\\(?:leq?|geq?)(?:slant)?\b|or|solution|numbers).*:\s*(?P<interval>[\[(\\].*|\$\\oslash\$)$",
    re.DOTALL,
)

_SAID = re.compile(
    r"^\W*(?:the |a |its? |this |their )?(?:general |unique |complete )?(?P<what>[a-z]+(?: [a-z]+){0,3}) "
    r"(?:is|are|equals) ?:?\s*"
    r"(?P<value>\$[^$]+\$(?: [a-z]+)?|\d[\d,.]*(?: [a-z]+){0,2}|[\[{\\(].+)\.?$",
    re.IGNORECASE | re.DOTALL,
)
"""A sentence that only says its value: "Solution is: $x = 2$", "The mode is $1/3$."."""
_ASSIGNED = re.compile(
    r"^\$* ?(?:\\left)? ?(?:\[|\\\{) ?(?P<values>[A-Za-z](?:_\w)? ?=[^\[\]]+?) ?(?:\\right)? ?(?:\]|\\\}) ?\$*\.?$"
)
"""Values of several letters in one bracket: ``[x=1, y=2]``."""


def undecorated(text: str) -> str:
    """The reference in the spelling of the grammar; other texts as they are.

    Example: ``undecorated("9 (apples)")`` is ``"9 \\text{ apples}"``.
    """
    text = from_program(text)
    if (chinese := _CHINESE.match(text)) is not None:
        return chinese[1].strip("$* ")
    if (match := _UNIT.match(text)) is not None:
        return _with_unit(match["value"].strip(), match["unit"])
    if (both := _BOTH.match(text)) is not None and _LETTER.match(text.strip("$ ")) is None:
        return both["interval"].strip("$ ")
    if (sentence := _SAID.match(text)) is not None and "not" not in sentence["what"].lower().split():
        text = sentence["value"].strip()
    if (assigned := _ASSIGNED.match(text)) is not None:
        return assigned["values"]
    return _option(with_named_extrema(text))


def _option(text: str) -> str:
    """The letter of ``(\\text{C})`` in brackets; other texts as they are."""
    letter = _LETTER.match(text.strip("$ "))
    return text if letter is None else f"({letter[1]})"


def undecorated_answer(text: str, reference: str) -> str:
    """Return a model's answer in the spelling of the grammar; ``reference`` is as the data set writes it.

    A reference ``24 (cubes)`` is 24, and ``x < 5: (-∞, 5)`` is its interval, as data sets write. In an answer words
    in brackets count, unless they are the reference's own or say the number again: ``42 (squared)`` is not 42. What
    stands before a colon counts, too: ``(3, 4) or: (1, 2)`` is a hedge.
    """
    text = with_named_extrema(_ROUGHLY.sub("", text))
    if (figures := _said_twice(text)) is not None:
        return figures
    match, own = _UNIT.match(text), _UNIT.match(reference)
    if text.strip("$ ") == reference.strip("$ ") or (
        match is not None and own is not None and own["unit"] == match["unit"]
    ):
        return undecorated(text)
    if match is None:
        return _option(text)
    return f"{match['value'].strip()} \\text{{ {match['unit']}}}"


def _said_twice(text: str) -> str | None:
    """The figures of ``11 (eleven)`` and ``eleven (11)``."""
    match = _FIGURES_FIRST.match(text) or _WORDS_FIRST.match(text)
    if match is None:
        return None
    number = number_in_words(" ".join(re.findall(r"[a-z]+", match["words"].lower())))
    return match["figures"] if number is not None and str(number) == match["figures"].replace(",", "") else None


def _with_unit(value: str, unit: str) -> str:
    """The value with its unit in text, or alone if the words are no unit: 24 (cubes)."""
    text = f"{value} \\text{{ {unit}}}"
    if ":" in value and "m" not in value:
        return value  # a ratio
    try:
        split_unit(text)
    except Unparsable:
        return value
    return text


def with_unit_of(reference: str, answer: str) -> str:
    """The answer with its last letter as a unit if it is the reference's: 350 g for ``350 \\text{ g}``."""
    unit = _ONE_LETTER.search(reference)
    if unit is None:
        return answer
    return re.sub(rf"(?<=\d) ?{unit[1]}(?=$| ?\^ ?\{{?[23]\}}?$)", f"\\\\text{{ {unit[1]}}}", answer)
