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


@pytest.mark.parametrize(("reference", "completion"), HEDGES)
def test_the_last_of_several_answers_is_not_paid(reference: str, completion: str) -> None:
    assert math_answer(Problem("p", "", reference), completion).value == 0
