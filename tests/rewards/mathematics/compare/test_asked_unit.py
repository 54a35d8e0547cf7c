"""The measure that a question asks for excludes others of its dimension."""

import pytest

from rewards.mathematics.compare.asked_unit import fits_question, without_asked


@pytest.mark.parametrize(
    ("question", "reference", "answer", "fits"),
    [
        ("How many hours?", "3", "3", True), ("How many hours?", "3", "3 hours", True), ("How many hours?", "3", "3 days", False),
        ("How many dollars?", "18", "18 cents", False), ("How much is it?", "18", "18 dollars", True), ("How long is it in minutes?", "90", "90 hours", False),
        ("Each costs 5 cents. How much is it?", "18", "18 dollars", True), ("The rope has 5 feet. How long?", "5", "5 miles", False),
        ("How many apples?", "5", "5 pears", True), ("How many hours?", "3 \\text{ days}", "3 days", True), ("", "3", "3 days", True),
        ("How many boxes for 24 cookies?", "1", "1 \\text{ box}", True), ("How many boxes for 24 cookies?", "2", "2 cookies", False),
        ("How many knives are in 5 sets?", "10", "10 knives", True), ("How many pages of the book?", "42", "42 books", True),
        ("He has books. How many pages did he read?", "42", "42 books", False), ("How many miles in 3 days?", "9", "9 days", False),
        ("There are 5 cows. How many animals are there?", "9", "9 cows", True), ("How many are left of the 9 cows?", "9", "9 cows", True),
        ("How many berries grow in 6 clusters of fruit?", "9", "9 fruit", True), ("How many ways to choose 3 books?", "14", "14 books", False),
        ("How much did she earn in 50 minutes at $12 an hour?", "10", "10 minutes", False), ("How much did it cost?", "10", "10 dollars", True),
        ("How old is Tom?", "9", "9 years old", True), ("How old is Tom?", "9", "9 pounds", False), ("What percent is it?", "25", "25 dollars", False),
        ("How many pages?", "42", "42\\text{nd}", False), ("Which place?", "5", "5th", True),
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
