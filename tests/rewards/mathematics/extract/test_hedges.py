"""Several answers that are stated as if they were one."""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Problem

HEDGES = [
    ('42', 'Answer 1: \\boxed{41}\nAnswer 2: \\boxed{42}'), ('42', 'The answer is 41 and the answer is 42.'),
    ('42', 'The final answer is 41\nThe final answer is 42'), ('42', 'It might be 41; it might be 42.'), ('42', '**41** / **42**'),
    ('42', 'Answer is 41 | Answer is 42'), ('42', '41 & 42'), ('17', 'Final answer: 16\nFinal answer: 17'), ('17', 'It is 16, or it is 17.'),
    ('17', '$$16$$ $$17$$'), ('17', '(1) 16 (2) 17'), ('17', '(a) 16\n(b) 17'), ('17', 'a. 16\nb. 17'), ('17', 'I: 16, II: 17'), ('17', '16 aka 17'),
    ('17', 'Guess 1: \\boxed{16}\nGuess 2: \\boxed{17}'),
]  # fmt: skip
CHAINED = [
    "x = 41 | x = 42",
    "x = 41 ∨ x = 42",
    "x=41 \\oplus x=42",
    "x=\\text{not} =42",
    "x = \\{41\\} = 42",
    "x = 41 \\rightarrow x = 42",
    "x=41 \\iff x=42",
    "x=41\\quad x=42",
    "x=41\\\\x=42",
    "x = 41 / x = 42",
    "x=41\\text{, }x=42",
    "x = 41 :: x = 42",
    "x = \\text{41} = 42",
    "x=?=42",
    "x=41\\text{ so }=42",
]
OF_TWO_KINDS = [
    "#### 41\n\\boxed{42}",
    "<answer>41</answer>\n\\boxed{42}",
    "The answer is 41.\n\n\\boxed{42}",
    "\\boxed{41}\n#### 42",
    "Answer: 41\n\\boxed{42}",
    "#### 41 \\boxed{42}",
    "The answer is 41, \\boxed{42}",
    "\\boxed{41} + \\boxed{42}",
    "\\boxed{41} = \\boxed{42}",
    "\\frac{\\boxed{41}}{\\boxed{42}}",
    "41 或 42",
    "x = 41 ∨ x = 42",
]
ONE = [
    "#### 42\n\\boxed{42}",
    "The answer is 42 apples.\n\n\\boxed{42}",
    "Hence the answer is 40 + 2 = 42.\n\n\\boxed{42}",
    "The answer is 41.\n\nWait, I forgot one.\n\n\\boxed{42}",
    "The answer is (C)\n\n\\boxed{42}",
    "The first answer is 3.\n\nThen we multiply: 3*14 =\n\n\\boxed{42}",
    "\\boxed{a+b = 40 + 2 = 42}",
    "\\boxed{x=\\int_0^6 \\frac{7t}{3}\\,dt = 42}",
]


@pytest.mark.parametrize(("reference", "completion"), HEDGES)
def test_the_last_of_several_answers_is_not_paid(reference: str, completion: str) -> None:
    assert math_answer(Problem("p", "", reference), completion).value == 0


@pytest.mark.parametrize("answer", CHAINED)
def test_a_chain_of_two_values_is_not_paid(answer: str) -> None:
    assert math_answer(Problem("p", "", "42"), f"\\boxed{{{answer}}}").value == 0


@pytest.mark.parametrize("completion", OF_TWO_KINDS)
def test_a_number_beside_another_is_not_paid(completion: str) -> None:
    assert math_answer(Problem("p", "", "42"), completion).value == 0


@pytest.mark.parametrize("completion", ONE)
def test_the_same_number_again_or_a_later_one_is_right(completion: str) -> None:
    assert math_answer(Problem("p", "", "42"), completion).value == 1
