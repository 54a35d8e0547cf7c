"""The form that a question asks for, and calculations that are left."""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Problem

OTHER_FORM = [
    ('Simplify $3x+5x$.', '8x', 'Therefore, the final answer is $\\boxed{16x/2}$.'),
    ('Compute $12\\cdot 15 - 8$.', '172', 'Therefore, the final answer is $\\boxed{-(-172)}$.'),
    ('Simplify $2a + 3b - a + 4b$.', 'a+7b', 'Therefore, the final answer is $\\boxed{\\frac{2a+14b}{2}}$.'),
        ('Write $3.2\\times10^4$ in standard form.', '32000', 'Therefore, the final answer is $\\boxed{32\\cdot10^3}$.'),
    ('Write $3.2\\times10^4$ in standard form.', '32000', 'Therefore, the final answer is $\\boxed{3.2e4}$.'),
    ('Write $3.2\\times10^4$ in standard form.', '32000', 'Therefore, the final answer is $\\boxed{0.32\\times 10^5}$.'),
    ('Write 45600 in scientific notation.', '4.56 \\times 10^4', 'Therefore, the final answer is $\\boxed{45.6\\times10^3}$.'),
    ('Write 45600 in scientific notation.', '4.56 \\times 10^4', 'Therefore, the final answer is $\\boxed{0.456\\times 10^5}$.'),
    ('Write 45600 in scientific notation.', '4.56 \\times 10^4', 'Therefore, the final answer is $\\boxed{456\\cdot 10^2}$.'),
    ('Write 45600 in scientific notation.', '4.56 \\times 10^4', 'Therefore, the final answer is $\\boxed{45600\\times10^0}$.'),
    ('Write the equation $3x-y=7$ in slope-intercept form.', 'y=3x-7', 'Therefore, the final answer is $\\boxed{x=(y+7)/3}$.'),
    ('Expand: $(2x-1)^2$.', '4x^2-4x+1', 'Therefore, the final answer is $\\boxed{(2x)^2-4x+1}$.'),
    ('Factor completely: $x^3-4x$.', 'x(x-2)(x+2)', 'Therefore, the final answer is $\\boxed{x^3(1-4/x^2)}$.'),
    ('Write $\\sqrt{50}$ in simplest radical form.', '5\\sqrt2', 'Therefore, the final answer is $\\boxed{\\sqrt5\\sqrt{10}}$.'),
    ('Write $x^2+6x+5$ in vertex form.', '(x+3)^2-4', 'Therefore, the final answer is $\\boxed{(x+1)(x+5)}$.'),
    ('Write $x^2+6x+5$ in vertex form.', '(x+3)^2-4', 'Therefore, the final answer is $\\boxed{x(x+6)+5}$.'),
    ('Rationalize $\\frac{1}{\\sqrt5-2}$.', '\\sqrt5+2', 'Therefore, the final answer is $\\boxed{(\\sqrt5-2)^{-1}}$.'),
    ('Evaluate $|{-9}|$.', '9', 'Therefore, the final answer is $\\boxed{-(-9)}$.'),
]  # fmt: skip
ASKED_FORM = [
    ('Simplify $3x+5x$.', '8x', 'So it is $\\boxed{8x}$.'), ('Compute $12\\cdot 15 - 8$.', '172', 'So it is $\\boxed{172}$.'),
    ('Simplify $2a + 3b - a + 4b$.', 'a+7b', 'So it is $\\boxed{a+7b}$.'),
    ('Write $3.2\\times10^4$ in standard form.', '32000', 'So it is $\\boxed{32000}$.'),
    ('Write 45600 in scientific notation.', '4.56 \\times 10^4', 'So it is $\\boxed{4.56 \\times 10^4}$.'),
    ('Write the equation $3x-y=7$ in slope-intercept form.', 'y=3x-7', 'So it is $\\boxed{y=3x-7}$.'),
    ('Expand: $(2x-1)^2$.', '4x^2-4x+1', 'So it is $\\boxed{4x^2-4x+1}$.'),
    ('Factor completely: $x^3-4x$.', 'x(x-2)(x+2)', 'So it is $\\boxed{x(x-2)(x+2)}$.'),
    ('Write $\\sqrt{50}$ in simplest radical form.', '5\\sqrt2', 'So it is $\\boxed{5\\sqrt2}$.'),
    ('Write $x^2+6x+5$ in vertex form.', '(x+3)^2-4', 'So it is $\\boxed{(x+3)^2-4}$.'),
    ('Rationalize $\\frac{1}{\\sqrt5-2}$.', '\\sqrt5+2', 'So it is $\\boxed{\\sqrt5+2}$.'), ('Evaluate $|{-9}|$.', '9', 'So it is $\\boxed{9}$.'),
]  # fmt: skip


@pytest.mark.parametrize(("question", "reference", "completion"), OTHER_FORM)
def test_another_form_is_refused(question: str, reference: str, completion: str) -> None:
    assert math_answer(Problem("p", question, reference), completion).value == 0


@pytest.mark.parametrize(("question", "reference", "completion"), ASKED_FORM)
def test_the_form_asked_for_is_right(question: str, reference: str, completion: str) -> None:
    assert math_answer(Problem("p", question, reference), completion).value == 1
