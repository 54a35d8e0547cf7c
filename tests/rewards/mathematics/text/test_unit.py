"""Units at an answer's end: split off, compared, and told from words that make another statement of the number."""

import pytest

from rewards.mathematics.expressions.tree import Unparsable
from rewards.mathematics.text.unit import split_unit, units_agree

DOLLAR, MILE = frozenset({"dollar"}), frozenset({"mile"})


@pytest.mark.parametrize(
    ("text", "value", "unit", "scale"),
    [
        ("18", "18", set(), 0), ("18 dollars", "18", {"dollar"}, 0), ("¤18", "18", {"dollar"}, 0), ("5 miles", "5", {"mile"}, 0),
        ("5 mph", "5", {"mile", "/hour"}, 0), ("5 miles per hour", "5", {"mile", "/hour"}, 0), ("5 \\text{ cm}^2", "5", {"centimeter", "square"}, 0),
        ("5 million", "5", set(), 6), ("¤5 million", "5", {"dollar"}, 6), ("30°", "30", {"degree"}, 0), ("30° C", "30", {"degree", "celsius"}, 0),
        ("25元", "25", {"yuan"}, 0), ("7 apples", "7", {"apple"}, 0), ("7 micro", "7", {"?micro", "micro"}, 0), ("5xy", "5xy", set(), 0), ("2 sin x", "2 sin x", set(), 0),
    ],
)  # fmt: skip
def test_a_unit_is_split_from_its_number(text: str, value: str, unit: set[str], scale: int) -> None:
    assert split_unit(text) == (value, unit, scale)


@pytest.mark.parametrize(
    "text",
    ["5 or more", "5 dozen", "5 squared", "5 tenths", "5 wrong", "5\\text{,000}", "5 six", "5 negative", "5 base"],
)
def test_words_that_change_the_number_are_refused(text: str) -> None:
    with pytest.raises(Unparsable):
        split_unit(text)


@pytest.mark.parametrize(
    ("reference", "answer", "question", "agree"),
    [
        (DOLLAR, frozenset(), "", True), (frozenset(), DOLLAR, "", True), (DOLLAR, DOLLAR, "", True), (DOLLAR, frozenset({"cent"}), "", False),
        (MILE, MILE | {"/hour"}, "", False), (MILE, MILE | {"square"}, "", False), (frozenset({"egg"}), frozenset({"egg", "/day"}), "", False),
        (frozenset(), frozenset({"?nautical", "mile"}), "", False), (frozenset(), frozenset({"?zorkmid", "zorkmid"}), "How many zorkmids?", True),
        (frozenset(), frozenset({"?zorkmid", "zorkmid"}), "How many?", False),
    ],
)  # fmt: skip
def test_units_agree(reference: frozenset[str], answer: frozenset[str], question: str, agree: bool) -> None:
    assert units_agree(reference, answer, question) is agree
