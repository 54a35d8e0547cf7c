"""Right answers in unusual words, names and notations."""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Problem

RIGHT = [
    ('', '2,3', 'So x = 2, 3'), ('', '7', '\\boxed{\\text{Answer: } 7}'), ('', '(2,-3)', 'Therefore, the final answer is $\\boxed{P(2,-3)}$.'),
    ('', '(2,-3)', 'Therefore, the final answer is $\\boxed{\\text{vertex } (2,-3)}$.'),
    ('', '(2,-3)', 'Therefore, the final answer is $\\boxed{\\text{the point } (2,-3)}$.'),
    ('', '17', 'Therefore, the final answer is $\\boxed{x+y=17}$.'), ('', '17', 'Therefore, the final answer is $\\boxed{m+n=17}$.'),
    ('', '17', 'Therefore, the final answer is $\\boxed{p + q + r = 17}$.'),
    ('', '17', 'Therefore, the final answer is $\\boxed{\\lfloor x \\rfloor = 17}$.'),
    ('', '17', 'Therefore, the final answer is $\\boxed{x+y+z=17}$.'), ('', '17', 'Therefore, the final answer is $\\boxed{\\max = 17}$.'),
    ('', '17', 'Therefore, the final answer is $\\boxed{k_{\\min} = 17}$.'),
    ('', '17', 'Therefore, the final answer is $\\boxed{k_{\\text{max}}=17}$.'), ('', '17', 'Therefore, the final answer is $\\boxed{f(g(1))=17}$.'),
    ('', '17', 'Therefore, the final answer is $\\boxed{\\det A = 17}$.'), ('', '17', 'Therefore, the final answer is $\\boxed{\\gcd(34,51)=17}$.'),
    ('', 'A=3, B=4', 'Therefore, the final answer is $\\boxed{A: 3, B: 4}$.'),
    ('', 'f(x)=2x', 'Therefore, the final answer is $\\boxed{f(x)=2x,\\ x\\in\\mathbb{R}}$.'),
    ('', 'f(x)=2x', 'Therefore, the final answer is $\\boxed{f(x)=2x \\; (x\\in\\mathbb R)}$.'),
    ('', '3', 'Therefore, the final answer is $\\boxed{\\text{exactly } 3}$.'),
    ('', '3', 'Therefore, the final answer is $\\boxed{\\text{There are } 3 \\text{ solutions}}$.'),
    ('', '3', 'Therefore, the final answer is $\\boxed{\\text{approximately } 3}$.'), ('', '42', 'The answer is 42 (approximately).'),
    ('', '42', '\\boxed{42 \\text{ (approximately)}}'), ('', '42', '\\boxed{\\text{approximately } 42}'),
    ('', '1250', 'Therefore, the final answer is $\\boxed{1250 \\text{ rs}}$.'),
    ('', '\\text{no real solutions}', 'Therefore, the final answer is $\\boxed{\\text{No real solutions exist}}$.'),
    ('', '\\text{No solution}', 'Therefore, the final answer is $\\boxed{\\text{There is no solution}}$.'),
    ('', '\\text{No solution}', 'Therefore, the final answer is $\\boxed{\\text{There are no solutions}}$.'),
    ('', '-7', 'Therefore, the final answer is $\\boxed{\\text{negative seven}}$.'),
    ('', '-7', 'Therefore, the final answer is $\\boxed{\\text{minus } 7}$.'),
    ('', '-7', 'Therefore, the final answer is $\\boxed{\\text{negative } 7}$.'),
    ('', '\\frac12', 'Therefore, the final answer is $\\boxed{\\text{one half}}$.'),
    ('', '\\frac12', 'Therefore, the final answer is $\\boxed{\\text{one-half}}$.'),
    ('', '\\ln 8', 'Therefore, the final answer is $\\boxed{\\log_e 8}$.'),
    ('', '\\binom{10}{3}2^7', 'Therefore, the final answer is $\\boxed{2^7\\binom{10}{3}}$.'),
    ('', '\\binom{10}{3}2^7', 'Therefore, the final answer is $\\boxed{2^7\\cdot\\binom{10}{7}}$.'),
    ('', '\\binom{10}{3}2^7', 'Therefore, the final answer is $\\boxed{15360}$.'), ('', '-1<x\\le 4', '-1 < x ≤ 4'),
    ('', '-1<x\\le 4', '-1 < x <= 4'), ('', 'x\\equiv2\\pmod 7', 'Therefore, the final answer is $\\boxed{x=2 \\pmod 7}$.'),
    ('', 'x\\equiv2\\pmod 7', 'Therefore, the final answer is $\\boxed{x \\equiv 2 \\ (\\text{mod } 7)}$.'),
    ('', '132_5', 'Therefore, the final answer is $\\boxed{132 \\text{ base } 5}$.'),
    ('', '\\mathbb{R}\\setminus\\{1\\}', 'Therefore, the final answer is $\\boxed{\\{x\\mid x\\neq1\\}}$.'),
    ('', '\\mathbb{R}\\setminus\\{1\\}', 'Therefore, the final answer is $\\boxed{\\text{all real numbers except } 1}$.'),
    ('', '\\mathbb{R}\\setminus\\{1\\}', 'Therefore, the final answer is $\\boxed{x \\in \\mathbb{R}, x \\ne 1}$.'),
    ('', '(-\\infty,-2]\\cup[2,\\infty)', 'Therefore, the final answer is $\\boxed{(-\\infty,-2] \\text{ or } [2,\\infty)}$.'),
    ('', '293', '{"final_answer": "293"}'), ('', '293', '\\framebox{293}'), ('', '293', 'The answer comes out to 293.'),
    ('', '293', '<solution>293</solution>'), ('', '293', '[ANSWER]293[/ANSWER]'), ('', 'B', 'Option B'), ('', 'B', 'B is correct.'),
    ('', 'B', 'B is the correct answer.'), ('', 'B', '**B.** 12 cm'), ('', 'B', 'Therefore, choice B is the answer.'), ('', 'B', 'I choose B.'),
    ('', 'B', 'Hence, (B) is correct.'), ('', 'B', 'Hence (B).'), ('', 'B', '选B'), ('', 'B', '故选B。'),
    ('', '答案是25。', 'Therefore, the final answer is $\\boxed{25}$.'), ('', 'C', 'So C is correct.'), ('', 'C', 'C is the right answer.'),
    ('', 'C', 'We choose (C).'), ('', 'C', 'Thus, (C).'), ('', 'C', '选择C'), ('', 'C', '因此选C。'),
    ('', '6', 'Therefore, the final answer is $\\boxed{x+y=6}$.'), ('', '6', 'Therefore, the final answer is $\\boxed{a\\cdot b = 6}$.'),
    ('', '6', 'Therefore, the final answer is $\\boxed{\\frac{a}{b}=6}$.'), ('', '6', 'Therefore, the final answer is $\\boxed{x_1+x_2=6}$.'),
    ('', '6', 'Therefore, the final answer is $\\boxed{|x-y|=6}$.'), ('', '6', 'Therefore, the final answer is $\\boxed{|A|=6}$.'),
    ('', '6', 'Therefore, the final answer is $\\boxed{N_{\\max}=6}$.'), ('', '6', 'Therefore, the final answer is $\\boxed{x_{\\text{min}} = 6}$.'),
    ('', '6', 'Therefore, the final answer is $\\boxed{\\text{Ans: }6}$.'), ('', '6', 'Therefore, the final answer is $\\boxed{\\text{Ans} = 6}$.'),
    ('', '8', 'Therefore, the final answer is $\\boxed{\\text{a total of } 8}$.'),
    ('', '8', 'Therefore, the final answer is $\\boxed{\\text{approximately }8}$.'),
    ('', '8', 'Therefore, the final answer is $\\boxed{\\text{about } 8}$.'),
    ('', '8', 'Therefore, the final answer is $\\boxed{\\text{roughly } 8}$.'),
    ('', '-\\frac{2}{3}', 'Therefore, the final answer is $\\boxed{\\text{negative two thirds}}$.'),
    ('', '\\frac{3}{4}', 'Therefore, the final answer is $\\boxed{\\text{three quarters}}$.'),
    ('', '\\frac{3}{4}', 'Therefore, the final answer is $\\boxed{\\text{three-fourths}}$.'), ('', '\\frac{3}{4}', 'The answer is three fourths.'),
    ('', '(0,1)\\cup(2,3)', 'Therefore, the final answer is $\\boxed{(0,1)\\text{ or }(2,3)}$.'),
    ('', '答：12', 'Therefore, the final answer is $\\boxed{12}$.'), ('', '2\\ln 3', 'Therefore, the final answer is $\\boxed{\\log_e 9}$.'),
]  # fmt: skip


@pytest.mark.parametrize(("question", "reference", "completion"), RIGHT)
def test_an_unusual_answer_is_right(question: str, reference: str, completion: str) -> None:
    assert math_answer(Problem("p", question, reference), completion).value == 1
