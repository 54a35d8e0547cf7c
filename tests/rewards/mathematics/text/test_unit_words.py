"""Words beside a number that are no unit of it."""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Problem

NO_UNIT = [
    ('', '42', 'Therefore, the final answer is $\\boxed{42 \\text{ perhaps}}$.'),
    ('How many cents does he have?', '75', 'Therefore, the final answer is $\\boxed{75 \\text{ pounds}}$.'),
    ('How many apples are left?', '12', 'Therefore, the final answer is $\\boxed{12 \\text{ oranges}}$.'),
    ('What is the length in meters?', '7', 'Therefore, the final answer is $\\boxed{7 \\text{ square meters}}$.'),
    ('', '17', 'Therefore, the final answer is $\\boxed{17 \\text{ googols}}$.'),
    ('', '17', 'Therefore, the final answer is $\\boxed{17 \\text{ nanos}}$.'),
    ('', '17', 'Therefore, the final answer is $\\boxed{17 \\text{ micros}}$.'),
    ('', '17', 'Therefore, the final answer is $\\boxed{17 \\text{ negative ones}}$.'),
    ('', '17', 'Therefore, the final answer is $\\boxed{17 \\text{ percentage points}}$.'),
    ('', '17', 'Therefore, the final answer is $\\boxed{17 \\text{ per cent}}$.'),
]  # fmt: skip
UNIT = [
    ('How many children are there?', '12', '\\boxed{12 \\text{ kids}}'), ('How many children are there?', '12', '\\boxed{12 \\text{ children}}'),
    ('How many apples does she have?', '12', '\\boxed{12 \\text{ red apples}}'), ('', '12', '\\boxed{12 \\text{ oranges}}'),
    ('How large is the field, in square meters?', '12', '\\boxed{12 \\text{ square meters}}'),
    ('What is its area?', '12', '\\boxed{12 \\text{ square meters}}'),
]  # fmt: skip


@pytest.mark.parametrize(("question", "reference", "completion"), NO_UNIT)
def test_a_word_that_is_no_unit_is_refused(question: str, reference: str, completion: str) -> None:
    assert math_answer(Problem("p", question, reference), completion).value == 0


@pytest.mark.parametrize(("question", "reference", "completion"), UNIT)
def test_a_unit_is_accepted(question: str, reference: str, completion: str) -> None:
    assert math_answer(Problem("p", question, reference), completion).value == 1
