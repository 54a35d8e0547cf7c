"""Right answers as models and data sets write them, kind by kind."""

import pytest

from rewards.math_answer import math_answer, unreadable
from rewards.types import Problem

RIGHT = [
    ('42', '#### 42\nThis answer makes sense.'),
    ('42', '\\boxed{42}\n\nThe answer is reasonable because it is positive.'),
    ('42', '<answer>42</answer>\nI hope this helps!'), ('42', '\\boxed{42}\n\nThe answer is in dollars.'),
    ('42', '\\boxed{42}. Let me know if you have questions.'),
    ('42', 'The answer is 42.\n\nNote: the answer was checked.'), ('2, 3', '\\boxed{2}, \\boxed{3}'),
    ('2,3', '$\\boxed{2}$ or $\\boxed{3}$'), ('2,3', '(a) \\boxed{2} (b) \\boxed{3}'),
    ('2,3', '$x_1=\\boxed{2}$, $x_2=\\boxed{3}$'), ('x=2,y=3', '$x=\\boxed{2}$ and $y=\\boxed{3}$'),
    ('7', '\\boxed{7}\n\nSo the answer is \\boxed{7}.'), ('2,3', '\\boxed{2\\text{ and }3}'),
    ('2,3', '\\boxed{x=2\\text{ or }x=3}'), ('121, 144', 'Therefore, the final answer is $\\boxed{144,121}$.'),
    ('100,200,300', 'Therefore, the final answer is $\\boxed{300, 200, 100}$.'),
    ('(1,100),(100,1)', 'Therefore, the final answer is $\\boxed{(100,1),(1,100)}$.'),
    ('(2,500)', 'Therefore, the final answer is $\\boxed{(2, 500)}$.'),
    ('-3,0', 'Therefore, the final answer is $\\boxed{b=-3, c=0}$.'),
    ('(1,2)', 'Therefore, the final answer is $\\boxed{x=1,\\ y=2}$.'),
    ('f(x)=x^2', 'Therefore, the final answer is $\\boxed{y=x^2}$.'),
    ('y=x^2', 'Therefore, the final answer is $\\boxed{f(x)=x^2}$.'),
    ('f(x)=x^2', 'Therefore, the final answer is $\\boxed{x^2}$.'),
    ('f(n)=n+1', 'Therefore, the final answer is $\\boxed{f(x)=x+1}$.'),
    ('f(x)=2x', 'Therefore, the final answer is $\\boxed{f(x) = 2x \\text{ for all real } x}$.'),
    ('f(x)=2x', 'Therefore, the final answer is $\\boxed{f(x)=2x\\quad\\forall x\\in\\mathbb{R}}$.'),
    ('f(x)=2x', 'Therefore, the final answer is $\\boxed{f(x)=2x \\text{ for every } x \\in \\mathbb{R}}$.'),
    ('5', 'Therefore, the final answer is $\\boxed{5\\text{th}}$.'),
    ('5', 'Therefore, the final answer is $\\boxed{5^{\\text{th}}}$.'),
    ('1250', 'Therefore, the final answer is $\\boxed{\\text{Rs. }1250}$.'),
    ('1250', 'Therefore, the final answer is $\\boxed{₹1250}$.'),
    ('42', 'Therefore, the final answer is $\\boxed{\\text{forty-two}}$.'), ('42', 'The answer is forty-two.'),
    ('305', 'Therefore, the final answer is $\\boxed{\\text{three hundred five}}$.'),
    ('\\text{no real solutions}', 'Therefore, the final answer is $\\boxed{\\text{There are no real solutions}}$.'),
    ('\\text{No solution}', 'Therefore, the final answer is $\\boxed{\\emptyset}$.'),
    ('42', '1. \\boxed{42}'), ('42', '- \\boxed{42}'), ('42', '$40 + 2 = \\boxed{42}$'), ('42', '$\\boxed{42}$, 2 more.'),
    ('42', '$\\boxed{42}^\\circ$'), ('42', '\\boxed{42}!'), ('42', '\\boxed{42}\n\n- 2 checks'), ('42', '$n \\ge \\boxed{42}$'), ('so 2\\boxed{42}', '\\boxed{42}'),
    ('11', '\\boxed{11 (eleven)}'), ('11', '\\boxed{eleven (11)}'), ('1,250', '\\boxed{1,250 (one thousand two hundred fifty)}'),
    ('24 (cubes)', '\\boxed{24 (cubes)}'), ('24 (cubes)', '\\boxed{24}'), ('9', '\\boxed{9 (apples)}'),
    ('4', '\\boxed{4 \\text{ or } 4}'), ('4 \\text{ or } 4', '\\boxed{4}'), ('x=4', '\\boxed{x=4 or x=4}'),
    ('\\sqrt{ab}', 'Therefore, the final answer is $\\boxed{\\sqrt{a}\\sqrt{b}}$.'),
    ('\\frac{\\sqrt{x}}{x}', 'Therefore, the final answer is $\\boxed{\\frac{1}{\\sqrt{x}}}$.'),
    ('\\ln(x^2)', 'Therefore, the final answer is $\\boxed{2\\ln x}$.'),
    ('\\ln\\frac{a}{b}', 'Therefore, the final answer is $\\boxed{\\ln a-\\ln b}$.'),
    ('\\sin 2x', 'Therefore, the final answer is $\\boxed{2\\sin x\\cos x}$.'),
    ('1-2\\sin^2 x', 'Therefore, the final answer is $\\boxed{\\cos 2x}$.'),
    ('\\tan^2 x', 'Therefore, the final answer is $\\boxed{\\sec^2 x - 1}$.'),
    ('x^{3/2}', 'Therefore, the final answer is $\\boxed{x\\sqrt{x}}$.'),
    ('\\sqrt[3]{x^2}', 'Therefore, the final answer is $\\boxed{x^{2/3}}$.'),
    ('n!', 'Therefore, the final answer is $\\boxed{n(n-1)!}$.'),
    ('\\binom{n}{2}', 'Therefore, the final answer is $\\boxed{\\frac{n(n-1)}{2}}$.'),
    ('\\frac{(n+1)!}{n!}', 'Therefore, the final answer is $\\boxed{n+1}$.'),
    ('\\binom{n}{k}', 'Therefore, the final answer is $\\boxed{\\frac{n!}{k!(n-k)!}}$.'),
    ('\\binom{n}{3}', 'Therefore, the final answer is $\\boxed{\\frac{n(n-1)(n-2)}{6}}$.'),
    ('(n+2)!', 'Therefore, the final answer is $\\boxed{(n+2)(n+1)n!}$.'),
    ('\\tan 20^\\circ', 'Therefore, the final answer is $\\boxed{\\cot 70^\\circ}$.'),
    ('60^\\circ', 'Therefore, the final answer is $\\boxed{60}$.'),
    ('90^\\circ - x', 'Therefore, the final answer is $\\boxed{90 - x}$.'),
    ('\\sin 10^\\circ', 'Therefore, the final answer is $\\boxed{\\sin(10^\\circ)}$.'),
    ('120', 'Therefore, the final answer is $\\boxed{120^{\\circ}}$.'),
    ('\\frac{1}{2}\\sin 40^\\circ', 'Therefore, the final answer is $\\boxed{\\sin 20^\\circ\\cos 20^\\circ}$.'),
    ('\\{1,2\\}', 'Therefore, the final answer is $\\boxed{\\{2,1\\}}$.'),
    ('x \\equiv 3 \\pmod{5}', 'Therefore, the final answer is $\\boxed{x\\equiv 3\\ (\\mathrm{mod}\\ 5)}$.'),
    ('x \\equiv 3 \\pmod{5}', 'Therefore, the final answer is $\\boxed{x \\equiv 8 \\pmod 5}$.'),
    ('-12_5', 'Therefore, the final answer is $\\boxed{-12_{5}}$.'),
    ('0.1_2', 'Therefore, the final answer is $\\boxed{0.1_{2}}$.'),
    ('\\mathbb{R}\\setminus\\{0\\}', 'Therefore, the final answer is $\\boxed{(-\\infty,0)\\cup(0,\\infty)}$.'),
    ('(-\\infty,0)\\cup(0,\\infty)', 'Therefore, the final answer is $\\boxed{x \\neq 0}$.'),
    ('\\{0\\}\\cup[1,2]', 'Therefore, the final answer is $\\boxed{[1,2]\\cup\\{0\\}}$.'),
    ('x\\in\\{1,2\\}', 'Therefore, the final answer is $\\boxed{1,2}$.'),
    ('\\{x\\mid x>2\\}', 'Therefore, the final answer is $\\boxed{(2,\\infty)}$.'), ('28\\%', '\\boxed{28} \\%'),
    ('28\\%', '$\\boxed{28}$%'), ('0.28', '\\boxed{28}\\%'), ('293', 'Answer: m+n = 256+37 = 293'),
    ('B', 'Option B is correct.'), ('B', 'Therefore, the correct option is B.'), ('5', '{"answer": "5"}'),
    ('5', '{"reasoning": "...", "answer": 5}'), ('5', '<|begin_of_box|>5<|end_of_box|>'), ('12', '\\boxed 12'),
    ('\\frac{3}{4}', 'So we get \\frac{3}{4}'), ('5', '**Final Answer**\n\n$5$'), ('5', '## Answer\n5'),
    ('B', '**Answer: (B)**'), ('B', 'The answer is (B) 17.'), ('5', 'Final answer:\n\\[\n5\n\\]'),
    ('x+1', 'The answer is $x+1$.'), ('5', 'answer = 5'), ('5', 'ANSWER: 5'), ('5', 'Therefore x equals 5'),
    ('C', 'Correct answer: C.'), ('5', '<answer>\n5\n</answer>'), ('5', '```\n5\n```'),
    ('[1,2)', 'The answer is [1,2).'), ('12', 'The final answer is: 12 cm.'),
    ('12', 'So the total is **12 apples**.'), ('25', '答案是25。'), ('25', '答案：25'), ('25', '所以答案是$\\boxed{25}$。'),
    ('25', 'Therefore, the final answer is $\\boxed{25\\text{ 千克}}$.'),
    ('25\\text{ 千克}', 'Therefore, the final answer is $\\boxed{25}$.'), ('25', '因此，一共需要25元。'),
    ('9 (apples)', 'Therefore, the final answer is $\\boxed{9}$.'),
    ('9 (apples)', 'Therefore, the final answer is $\\boxed{9 \\text{ apples}}$.'),
    ('(\\text{E})', 'Therefore, the final answer is $\\boxed{E}$.'), ('(\\text{E})', 'The answer is E.'),
    ('-1./3', 'Therefore, the final answer is $\\boxed{-\\frac{1}{3}}$.'),
    ('0,5', 'Therefore, the final answer is $\\boxed{0.5}$.'),
    ('1.234,56', 'Therefore, the final answer is $\\boxed{1234.56}$.'),
    ('0,5', 'Therefore, the final answer is $\\boxed{0,5}$.'),
    ('$12 \\mathrm{~cm}$', 'Therefore, the final answer is $\\boxed{12}$.'),
    ('\\textbf{(C)}', 'Therefore, the final answer is $\\boxed{C}$.'),
    ('C. 12', 'Therefore, the final answer is $\\boxed{C}$.'), ('12', 'She has 12 cupcakes left.'),
    ('12', 'It takes him 12 minutes to get there.'), ('12', 'So there are 12 ways.'),
    ('18', 'Janet makes $18 every day at the market.'), ('3', 'Hence there are 3 such numbers.'), ('3', 'so n = 3'),
    ('4', 'Thus the value of x is 4.'), ('30', 'It travels at 30 km/h.'), ('1/2', 'so the probability is 1/2.'),
]  # fmt: skip
ASKED = [
    ("What percent is it?", "28", "\\boxed{28}\\%"),
    ("What percent is it?", "28", "$\\boxed{28}$ percent"),
    ("How many cupcakes does she have?", "12", "Therefore, the final answer is $\\boxed{12\\text{ cupcakes}}$."),
    ("How many more apples?", "12", "Thus, Tom needs 12 more apples."),
]


@pytest.mark.parametrize(("reference", "completion"), RIGHT)
def test_a_right_answer_is_right(reference: str, completion: str) -> None:
    assert math_answer(Problem("p", "", reference), completion).value == 1


@pytest.mark.parametrize(("question", "reference", "completion"), ASKED)
def test_the_question_helps(question: str, reference: str, completion: str) -> None:
    assert math_answer(Problem("p", question, reference), completion).value == 1


@pytest.mark.parametrize("reference", sorted({reference for reference, _ in RIGHT}))
def test_every_reference_is_readable(reference: str) -> None:
    assert unreadable(reference) is None
