"""A number without any mark of an answer counts only if its sentence speaks of what was asked."""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Outcome, Problem

APPLES = "Tom picks apples from 6 trees, 7 from each. How many apples does Tom have?"
ROOTS = "What is the sum of the roots of $x^2-42x+1$?"
OF_ANOTHER = [  # whatever the question is
    "There are 42 ways to fail.", "There are 42 ways of being wrong.", "There are 42 reasons why I cannot solve this.", "It took 42 attempts.",
    "I read 42 books about this.", "My lucky number is 42.", "You gave me 42 points.", "The problem has 42 steps.", "The hint mentions 42.",
    "The question has 42 words.", "Someone told me 42.", "There is a 42 in the question.", "We have to check 42 cases.", "One root is 42.",
    "A lower bound is 42.", "A possible value is 42.", "The denominator is 42.", "The first term is 42.", "Initially there are 42 of them.",
    "Given that there are 42.", "The year is 42.", "The maximum value is 42 but we need another.", "There were **42** errors in my reasoning.",
    "It reduces to $42$ cases.", "The discriminant is $42$.", "This took me 42 minutes.", "I am $42$ years old.", "There are **42** ways to fail.",
]  # fmt: skip
OF_OTHER_THINGS = [  # what the question does not speak of
    "There are 42 birds in the garden.", "Mary bakes 42 cakes a day.", "The temperature is 42.", "42 monkeys could not do it.", "The universe has 42.",
    "There are 42 oranges.", "The bus carried 42 passengers.", "Tom has 42 oranges.", "The shirt costs $42.",
]  # fmt: skip
OF_THE_QUESTION = [
    "Tom has 42 apples.", "So he has 42.", "That makes 42 altogether.", "So there are 42 apples in total.", "6 times 7 equals 42.", "Therefore x equals 42.",
    "I get 42.", "I conclude that Tom has 42 apples.", "It comes to 42 in all.", "So the baskets hold 6*7=42.", "He picks 42.", "We find that it is $42$.",
    "Thus $x = 42$.", "Dividing both sides by 2 gives 42.",
]  # fmt: skip


@pytest.mark.parametrize("question", ["", APPLES, ROOTS])
@pytest.mark.parametrize("text", OF_ANOTHER)
def test_a_sentence_of_something_else_states_nothing(question: str, text: str) -> None:
    assert math_answer(Problem("p", question, "42"), text).outcome is Outcome.NO_ANSWER


@pytest.mark.parametrize("text", OF_OTHER_THINGS)
def test_a_sentence_that_shares_nothing_with_the_question_states_nothing(text: str) -> None:
    assert math_answer(Problem("p", APPLES, "42"), text).outcome is Outcome.NO_ANSWER


@pytest.mark.parametrize("text", OF_THE_QUESTION)
def test_a_sentence_of_the_question_states_its_number(text: str) -> None:
    assert math_answer(Problem("p", APPLES, "42"), text).value == 1


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("How many ways are there to fail?", "There are 42 ways."),
        ("How many pages does she read?", "She reads 42 pages."),
        ("How many attempts did he need?", "He needed 42 attempts."),
        ("What is the denominator?", "The denominator is 42."),
        ("How many marbles did she have initially?", "Initially she had 42 marbles."),
        ("How old am I?", "I am 42 years old."),
        ("What is the discriminant of $x^2$?", "The discriminant is 42."),
    ],
)
def test_the_question_may_ask_for_just_that(question: str, text: str) -> None:
    assert math_answer(Problem("p", question, "42"), text).value == 1
