"""Boxes that are a part of another statement, and boxes beside words that change nothing."""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Problem

OTHER = [
    ('42', 'x < \\boxed{42}'), ('42', 'x > \\boxed{42}'), ('42', 'x \\ne \\boxed{42}'), ('42', 'less than \\boxed{42}'),
    ('42', 'more than \\boxed{42}'), ('42', 'half of \\boxed{42}'), ('42', 'between 1 and \\boxed{42}'), ('42', 'twice \\boxed{42}'),
    ('42', 'negative \\boxed{42}'), ('42', 'minus \\boxed{42}'), ('42', 'the square of \\boxed{42}'), ('42', '\\boxed{42} squared'),
    ('42', '\\boxed{42} dozen'), ('42', '\\boxed{42} thousand'), ('42', '\\boxed{42} and a half'), ('42', '\\boxed{42} tenths'),
    ('42', '\\boxed{42} times 2'), ('42', '\\boxed{42} minus 1'), ('42', '(x, \\boxed{42})'), ('42', '[0, \\boxed{42}]'), ('42', 'f(\\boxed{42})'),
    ('42', '$\\boxed{42}x$'), ('42', '$\\boxed{42}i$'), ('42', '$x\\boxed{42}$'), ('42', '$\\sin\\boxed{42}$'), ('42', '$\\log\\boxed{42}$'),
    ('42', '$e^{\\boxed{42}}$'), ('42', '$\\pi\\boxed{42}$'), ('42', '$a_{\\boxed{42}}$'), ('17', 'one third of \\boxed{17}'),
    ('17', 'the negative of \\boxed{17}'), ('17', '\\boxed{17} halves'),
]  # fmt: skip
SAME = [
    ('17', 'So we need at least \\boxed{17} moves.'), ('17', 'Hence $n \\ge \\boxed{17}$.'),
    ('17', 'The price rose from $12 to \\boxed{17} dollars.'), ('17', 'It increased by \\boxed{17}.'),
    ('17', 'After \\boxed{17} days the tank is full.'), ('17', 'The minimum is thus \\boxed{17}, attained at x=2.'),
    ('17', 'Since 17 > 16, the answer is \\boxed{17}.'), ('17', '<p>\\boxed{17}</p>'), ('17', '<b>\\boxed{17}</b>'), ('17', '> \\boxed{17}'),
    ('17', '=> \\boxed{17}'), ('17', '→ \\boxed{17}'), ('17', '==> $\\boxed{17}$'), ('17', 'x = \\boxed{17}'), ('17', 'x=(\\boxed{17})'),
    ('17', '| Answer | \\boxed{17} |'), ('17', '(\\boxed{17})'), ('17', '[\\boxed{17}]'), ('17', '"\\boxed{17}"'),
    ('17', '\\boxed{17} is the sum of the digits.'), ('17', '\\boxed{17} and we are done.'), ('17', '\\boxed{17} more than Jim.'),
    ('17', '\\boxed{17} less than before.'), ('17', '\\boxed{17} times'), ('17', '\\boxed{17} cm'), ('17', '\\boxed{17}cm'), ('17', '\\boxed{17} m'),
    ('17', '\\boxed{17}m'), ('17', '\\boxed{17} kg.'), ('17', '\\boxed{17} hours and we are home.'), ('17', '\\boxed{17} (see above)'),
    ('17', '\\boxed{17} since 20-3=17.'), ('17', '\\boxed{17} because it is the only prime.'),
    ('17', 'Case 1 is wrong, so case 2 holds and the answer is \\boxed{17}.'), ('17', 'The first guess 16 is wrong; the answer is \\boxed{17}.'),
    ('17', 'We assumed x > 0, so the answer is \\boxed{17}.'), ('17', 'If the answer is an integer it must be \\boxed{17}.'),
    ('17', 'So if $x = 3$, $y = \\boxed{17}$.'), ('17', 'Then $f(3) = \\boxed{17}$.'), ('17', 'We get $(a+b) = \\boxed{17}$.'),
    ('17', '$\\frac{34}{2}=\\boxed{17}$'), ('17', '$\\sqrt{289}=\\boxed{17}$'), ('17', '$2\\cdot 8+1 = \\boxed{17}$'),
    ('17', '$17\\% $ hence \\boxed{17}'), ('17', '$\\text{Total} = \\boxed{17}$'), ('17', '\\begin{align*}x&=\\boxed{17}\\end{align*}'),
    ('17', '\\[x=\\boxed{17}.\\]'), ('17', '$$\\boxed{17}$$'), ('17', '$\\boxed{17}$.'), ('17', '$\\boxed{17 }$'), ('17', '$\\boxed{\\,17\\,}$'),
    ('17', '$\\boxed{17}\\,$'), ('17', '$\\boxed{17}\\text{ cm}$'), ('17', '$\\boxed{17}\\ \\text{units}^2$'), ('17', 'Answer: \\boxed{17} apples'),
    ('17', 'The final answer is: \\boxed{17} (apples).'), ('17', '\\boxed{17}, not 18, because we exclude zero.'),
    ('17', '\\boxed{17}\n\nNot every case was needed.'),
]  # fmt: skip


@pytest.mark.parametrize(("reference", "completion"), OTHER)
def test_a_box_that_is_a_part_of_another_statement_is_no_answer(reference: str, completion: str) -> None:
    assert math_answer(Problem("p", "", reference), completion).value == 0


@pytest.mark.parametrize(("reference", "completion"), SAME)
def test_words_beside_a_box_change_nothing(reference: str, completion: str) -> None:
    assert math_answer(Problem("p", "", reference), completion).value == 1


@pytest.mark.parametrize(
    ("question", "reference", "right"),
    [
        ("", "42000", 1),
        ("", "42", 0),
        ("How many thousand seats are there?", "42", 1),
        ("How much is that in thousands?", "42", 1),
    ],
)
def test_a_scale_behind_a_box_belongs_to_it_unless_the_question_names_it(
    question: str, reference: str, right: int
) -> None:
    assert math_answer(Problem("p", question, reference), "It seats \\boxed{42} thousand.").value == right
