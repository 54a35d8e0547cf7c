"""Compares an answer's unit with the one that the question speaks of: 18 cents are no answer to "how many dollars?".

References seldom carry a unit, so a number is compared without one (`equivalence`). The question tells more. Only
measures of one dimension exclude each other; "eggs" for "apples" is left alone, since words have too many synonyms.
"""

import re

from rewards.mathematics.expressions.shapes import Answer, Items, Named, Scalar, Union
from rewards.mathematics.expressions.tree import Unparsable
from rewards.mathematics.parse.answer import parse_answer
from rewards.mathematics.text.chinese_units import asked_measures
from rewards.mathematics.text.normalize import normalize, words
from rewards.mathematics.text.stems import stem
from rewards.mathematics.text.unit import ALIASES, singular

_DIMENSIONS = tuple(
    frozenset(words.split())
    for words in (
        "dollar cent euro yen rupee penny pence yuan jiao",
        "second minute hour day week month year",
        "inch foot yard mile millimeter centimeter meter kilometer",
        "gram kilogram milligram ounce pound ton",
        "liter milliliter gallon quart pint",
        "degree radian",
        "celsius fahrenheit kelvin",
    )
)
_TIME = _DIMENSIONS[1]
_ALL = frozenset(word for words in _DIMENSIONS for word in words)
_USUAL = frozenset({"dollar", "year"})
"""Units of money and age that go without saying: a question may speak of cents or months only."""
_POWERS = frozenset({"square", "cubic"})
_POWER_OF = {"square": "volume", "cubic": "area"}
"""Quantities that the other power measures: a question about one wants none of these."""
_OF_POWERS = re.compile(
    r"\b(?:square|cubic|cu|sq|area|volume|surface|capacity|land|floor|region)|\^ ?\{? ?[23]|[²³]", re.IGNORECASE
)
_ASKED_POWER = re.compile(r"\b(?:in|how many) (square|cubic|sq|cu)\b", re.IGNORECASE)
_LENGTHS = _DIMENSIONS[2]
_ONE_LETTER = frozenset("mgslh") | {"in"}
_SIGNS = {
    "m/s": " meter ",
    "km/h": " kilometer ",
    "$": " dollar ",
    "¢": " cent ",
    "°": " degree ",
    "\\circ": " degree ",
    "\\degree": " degree ",
}
_HOW_MANY = re.compile(
    r"\bhow (?:many|much)(?: (?:more|fewer|less|total|full|whole|additional|in|square|cubic))* ([a-z]+)", re.IGNORECASE
)
_ASKED = re.compile(
    r"\bhow (?:many|much) (more|fewer|less|dozens?|pairs?|quarters?|thirds|tenths|hal(?:f|ves)|tens|cubes|"
    r"squares|hundreds?|thousands?|millions?|billions?)\b",
    re.IGNORECASE,
)
_IN_SCALE = re.compile(r"\bin ((?:thousand|million|billion)s?)\b", re.IGNORECASE)
_THINGS = re.compile(r"\bhow many ((?:[a-z'-]+ ){0,5}[a-z'-]+)|\bin ([a-z]+)", re.IGNORECASE)
_NO_THING = words(
    "are is was were does did do will would can could has have had should must may might of in total more left"
)
"""Words behind "how many" where the things are not said, or were said before."""
_KINDS_OF_THINGS = words(
    "people person thing item object animal piece kid child children student member vehicle fruit flower toy coin pet "
    "vegetable worker employee guest friend unit"
)
"""Words that a question may ask for and that an answer may name by kinds of theirs: 5 cows are animals."""
_QUANTITIES = (
    (
        re.compile(
            r"\bhow much (?:(?:more |total |extra )?money\b|(?:does|did|do|will|would|has|have|should|is|was|must|can) "
            r"(?:[a-z']+ ){1,4}(?:earn|pay|paid|spend|spent|cost|charge|owe|profit|donate|worth)\w*\b)",
            re.IGNORECASE,
        ),
        _DIMENSIONS[0],
    ),
    (re.compile(r"\bhow old\b", re.IGNORECASE), _TIME),
    (re.compile(r"\bwhat per ?cent(?:age)?\b", re.IGNORECASE), frozenset[str]()),
)
"""Questions whose words say which measures an answer can have."""
_ORDINAL = re.compile(r"\d ?(?:\^ ?\{? ?)?(?:\\text ?\{ ?)?(?:st|nd|rd|th)\b")
_IN = re.compile(r"\bin ([a-z]+)", re.IGNORECASE)
_RATE = re.compile(r"\b(?:in|how many) ([a-z]+) (?:per|an|a) [a-z]+", re.IGNORECASE)
_CONVERTED = re.compile(
    r"\b(?:convert|change|express|rewrite)\b[^?\n]*?\b(?:to|into|in) ([a-z]+)(?:/[a-z]+)?[ .?]*$", re.IGNORECASE
)
"""The unit that a quantity is to be converted to."""
_WORD = re.compile(r"[a-z]+")


def fits_question(question: str, reference: str, answer: str) -> bool:
    """False when an answer that equals the reference is in a measure that the question excludes.

    Example: ``fits_question("How many hours?", "3", "3 days")`` is False.
    """
    if not question or not re.search(r"[A-Za-z°¢$€£¥\u4e00-\u9fff]", answer):
        return True
    if _counts_things(question) and _ORDINAL.search(answer) and not _ORDINAL.search(reference):
        return False  # the 5th for how many
    try:
        units, expected = (_units(parse_answer(normalize(text))) for text in (answer, reference))
    except Unparsable:
        return True  # equal by its spelling, or an option's letter
    if _is_of_another_power(question, units, expected) or _are_other_things(question, units - expected):
        return False
    given = {m for m in units if any(m in d for d in _DIMENSIONS)}
    if not given or given & expected:
        return True
    asked = asked_measures(question)
    if asked is not None and not given & asked:
        return False  # 25元 for 多少个
    return not any(_excludes(question, measure) for measure in given)


def _is_of_another_power(question: str, units: set[str], expected: set[str]) -> bool:
    """Return True for a length, an area or a volume where the question is about another of them."""
    powers, asked = units & _POWERS, question.lower()
    if powers and not units & expected and not _OF_POWERS.search(question):
        return True  # square meters are no length
    if any(_POWER_OF[word] in asked and word not in asked for word in powers - expected):
        return True  # cubic centimeters are no area
    power = _ASKED_POWER.search(question)
    return bool(units & _LENGTHS) and not expected and power is not None and _measure(power[1]) not in units


def without_asked(question: str, answer: str) -> str:
    """The answer without the word that only repeats the question's, where it would say something else elsewhere.

    Example: ``without_asked("How many more apples?", "5 more apples")`` is ``"5  apples"``.
    """
    for word in (*_ASKED.findall(question), *_IN_SCALE.findall(question)):
        answer = re.sub(
            rf"(?<=\d)(\s*(?:\\text\s*\{{)?\s*){word.lower().rstrip('s')}s?\b(?!\s*than\b)", r"\1", answer, count=1
        )
    return answer


def _excludes(question: str, measure: str) -> bool:
    counted = {_measure(w) for w in _HOW_MANY.findall(question) if w.lower() != "in"}
    if counted & _ALL and measure not in counted and len(counted) == 1:
        return True  # 75 pounds for "how many cents"
    if len(counted) == 1 and not counted & _ALL and _counts_things(question) and measure not in _counted(question):
        return True  # 12 pounds for "how many apples"
    if any(pattern.search(question) and measure not in allowed for pattern, allowed in _QUANTITIES):
        return True  # 10 minutes for "how much does she earn"
    rates = {_measure(w) for w in _RATE.findall(question)} & _ALL
    if rates and measure not in rates:
        return True  # hours for miles per hour
    dimension = next(d for d in _DIMENSIONS if measure in d)
    targets = {_measure(w) for w in _IN.findall(question)} & _ALL
    if len(targets) == 1 and not targets & dimension:
        return True  # centimeters for "in degrees"
    converted = {_measure(w) for w in _CONVERTED.findall(question)} & dimension
    if converted:
        return measure not in converted
    asked = counted & dimension
    if not asked and dimension is _TIME:
        asked = {_measure(w) for w in _IN.findall(question)} & dimension
    if asked:
        return measure not in asked
    named = mentioned(question) & dimension
    return bool(named) and dimension is not _TIME and measure not in named | _USUAL


def _counts_things(question: str) -> bool:
    """Return True for how many, and False for how much, which is asked of measures."""
    return "how many" in question.lower() and "how much" not in question.lower()


def _counted(question: str) -> set[str]:
    """The words behind each "how many", and the measures that a result is to be in."""
    return {_measure(w) for pair in _THINGS.findall(question) for w in " ".join(pair).split()}


def _are_other_things(question: str, units: set[str]) -> bool:
    """Return True for things of the question that are not those of which it asks how many: books for pages."""
    asked = [things.lower().split() for things, _ in _THINGS.findall(question) if things]
    if not asked or any(things[0] in _NO_THING or _measure(things[0]) in _ALL | _KINDS_OF_THINGS for things in asked):
        return False
    named = {stem(w) for w in {w.removeprefix("?") for w in units} - _ALL - _KINDS_OF_THINGS}
    counted, spoken_of = ({stem(w) for w in words} for words in (_counted(question), mentioned(question)))
    return bool(named) and not named & counted and bool(named & spoken_of)


def mentioned(question: str) -> set[str]:
    """The words of a question, measures in full and in the singular."""
    question = question.lower()
    for sign, name in _SIGNS.items():
        question = question.replace(sign, name)
    return {_measure(w) for w in _WORD.findall(question) if w not in _ONE_LETTER}


def _measure(word: str) -> str:
    """The word in the singular and in full."""
    word = word.lower()
    word = ALIASES.get(word, word)
    word = singular(word)
    return {"penny": "cent", "pennie": "cent", "pence": "cent"}.get(word, ALIASES.get(word, word))


def _units(answer: Answer) -> set[str]:
    """The words of all units in it."""
    match answer:
        case Scalar(_, unit):
            return {_measure(w) for w in unit if not w.startswith("/")}
        case Named(_, value):
            return _units(value)
        case Items(_, _, items) | Union(items):
            return {unit for item in items for unit in _units(item)}
        case _:
            return set()
