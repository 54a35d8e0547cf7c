"""The measure that a question asks for excludes others of its dimension."""

import pytest

from rewards.measure import fits_question, without_asked


@pytest.mark.parametrize(
    ("question", "reference", "answer", "fits"),
    [
        ("How many hours?", "3", "3", True), ("How many hours?", "3", "3 hours", True), ("How many hours?", "3", "3 days", False),
        ("How many dollars?", "18", "18 cents", False), ("How much is it?", "18", "18 dollars", True), ("How long is it in minutes?", "90", "90 hours", False),
        ("Each costs 5 cents. How much is it?", "18", "18 dollars", True), ("The rope has 5 feet. How long?", "5", "5 miles", False),
        ("How many apples?", "5", "5 pears", True), ("How many hours?", "3 \\text{ days}", "3 days", True), ("", "3", "3 days", True),
    ],
)  # fmt: skip
def test_an_answer_fits_its_question(question: str, reference: str, answer: str, fits: bool) -> None:
    assert fits_question(question, reference, answer) is fits


@pytest.mark.parametrize(
    ("question", "answer", "left"),
    [
        ("How many more apples?", "5 more apples", "5  apples"), ("How many dozens?", "3 dozen", "3 "), ("How many apples?", "5 more apples", "5 more apples"),
        ("How many more apples?", "5 more than", "5 more than"),
    ],
)  # fmt: skip
def test_a_word_of_the_question_says_nothing_new(question: str, answer: str, left: str) -> None:
    assert without_asked(question, answer) == left
