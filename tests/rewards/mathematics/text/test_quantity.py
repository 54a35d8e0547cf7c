"""A quantity with a name is not another one of its kind."""

import pytest

from rewards.math_answer import math_answer
from rewards.mathematics.text.quantity import is_another_quantity
from rewards.types import Problem


@pytest.mark.parametrize(
    ("said", "question", "another"),
    [
        ("The area is", "Find the perimeter.", True), ("The area is", "Find the area.", False), ("The area is", "Find the perimeter from the area.", False),
        ("The circumference is", "Find the perimeter.", False), ("The average is", "Find the mean.", False), ("The sum is", "Find the product.", True),
        ("The sum is", "Find the mean.", False), ("The number of divisors is", "Find the sum of the divisors.", True),
        ("The difference is", "How many more does she have?", False), ("In total", "Find the product.", False), ("The answer is", "Find the area.", False),
    ],
)  # fmt: skip
def test_a_quantity_is_not_another_of_its_kind(said: str, question: str, another: bool) -> None:
    assert is_another_quantity(said, question) is another


@pytest.mark.parametrize(
    ("question", "completion", "right"),
    [
        ("What is the perimeter of the square?", "\\boxed{\\text{Area} = 12}", 0),
        ("What is the perimeter of the square?", "\\boxed{\\text{Perimeter} = 12}", 1),
        ("What is the perimeter of the square?", "\\boxed{P = 12}", 1),
        ("What is the perimeter of the square?", "The area of the square is 12.", 0),
        ("What is the sum of the divisors?", "The number of divisors is 12.", 0),
        ("What is the sum of the divisors?", "The sum of the divisors is 12.", 1),
    ],
)
def test_a_named_answer_is_what_the_question_asks_for(question: str, completion: str, right: int) -> None:
    assert math_answer(Problem("p", question, "12"), completion).value == right
