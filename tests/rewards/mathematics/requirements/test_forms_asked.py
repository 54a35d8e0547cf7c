"""The question in another spelling, sums left to do, and the forms and orders that questions ask for."""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Problem

BOXED = [  # question, reference, right answers, wrong ones
    ('What is 12 + 30?', '42', ['42', '12+30=42', 'x=42', '42.0', '+42'], ['12+30', '30+12', '(12+30)', '12+30+0', '42+0', '42\\cdot1',
     '\\frac{84}{2}', '\\sqrt{1764}', '6\\cdot 7', '2\\cdot 21', '|{-42}|', '\\lfloor 42.3\\rfloor', '\\max(42,1)', '42^1', '42e^0',
     '42\\cos 0', '\\frac{42x}{x}', '42+x-x', '42\\frac{y}{y}', '42+0i', '42i^4', '-42i^2', '43-1', '\\ln e^{42}', '\\log_2 2^{42}',
     '\\binom{42}{1}', '\\int_0^{42}dx', '\\sum_{k=1}^{42}1', '\\gcd(42,84)', '42 \\bmod 100', '12 + 30 + x - x', '\\sqrt{42}^2',
     '(\\sqrt{42})^2', '\\sqrt[3]{42^3}', '\\frac{12}{1}+30', '7!/120', '2^5+10', '0x2A', '4.2\\times10^1\\times 1',
     '\\det\\begin{pmatrix}42&0\\\\0&1\\end{pmatrix}', '\\left|\\begin{array}{cc}42&0\\\\0&1\\end{array}\\right|', '\\lim_{x\\to 42}x',
     '\\Re(42)', '42^{\\sin^2x+\\cos^2x}', '42(\\sin^2 x+\\cos^2 x)', '\\overline{42}', '42!/41!', '\\frac{d}{dx}42x']),
    ('Compute $\\frac{3}{4}+\\frac{1}{6}$.', '\\frac{11}{12}', ['\\frac{11}{12}', '\\frac{22}{24}', '0.91666667', '11/12'],
     ['\\frac{3}{4}+\\frac{1}{6}', '\\frac{9}{12}+\\frac{2}{12}', '\\frac{9+2}{12}', '\\frac{11}{3\\cdot 4}', '1-\\frac1{12}',
     '\\frac{3\\cdot 3+2}{12}']),
    ('Simplify $\\frac{12}{16}$.', '\\frac{3}{4}', ['\\frac34', '3/4'], ['\\frac{12}{16}', '\\frac{6}{8}', '12/16', '\\frac{-12}{-16}',
     '\\frac{3\\cdot4}{4\\cdot4}']),
    ('Simplify $\\sqrt{72}$.', '6\\sqrt{2}', ['6\\sqrt2', '6 \\cdot \\sqrt{2}'], ['\\sqrt{72}', '72^{1/2}', '\\sqrt{36}\\sqrt{2}',
     '\\sqrt{36\\cdot2}', '2\\sqrt{18}', '3\\sqrt{8}', '\\sqrt{2}\\sqrt{36}', '8.485281']),
    ('Expand $(x-1)(x+4)$.', 'x^2+3x-4', ['-4+3x+x^2', 'x^{2}+3x-4'], ['(x-1)(x+4)', '(x+4)(x-1)', '(x-1)x+(x-1)4', 'x(x+4)-(x+4)',
     'x(x+3)-4', 'x^2+4x-x-4']),
    ('Factor $x^2-9$.', '(x-3)(x+3)', ['(x+3)(x-3)'], ['x^2-9', '-9+x^2', '1(x^2-9)', 'x\\cdot x-9', '(x^2-9)', 'x^2-3^2']),
    ('Write $\\frac{7}{20}$ as a decimal.', '0.35', [], ['\\frac{7}{20}', '7/20', '35\\%', '\\frac{35}{100}']),
    ('Write 0.35 as a fraction in lowest terms.', '\\frac{7}{20}', [], ['0.35', '\\frac{35}{100}', '35\\%', '.35']),
    ('Write $\\frac{7}{20}$ as a percent.', '35\\%', ['35\\%', '35', '35 \\text{ percent}'], ['\\frac{7}{20}', '\\frac{700}{20}\\%']),
    ('Express 45600 in scientific notation.', '4.56\\times 10^4', ['4.56\\cdot10^{4}', '4.56 \\times 10^{4}'], ['45600', '45.6\\times10^3',
     '456\\times10^2']),
    ('Write $2.5\\times10^3$ in standard notation.', '2500', [], ['2.5\\times10^3', '25\\times 10^2']),
    ('Convert $\\frac{17}{5}$ to a mixed number.', '3\\frac{2}{5}', [], ['\\frac{17}{5}', '17/5', '3.4']),
    ('Write $3\\frac25$ as an improper fraction.', '\\frac{17}{5}', [], ['3\\frac{2}{5}']),
    ('Complete the square: $x^2+6x+5$', '(x+3)^2-4', [], ['x^2+6x+5', '(x+1)(x+5)']),
    ('Solve $2x+3y=6$ for $y$.', 'y=2-\\frac{2}{3}x', ['y=\\frac{6-2x}{3}', 'y=-\\frac23x+2'], ['2x+3y=6', '3y=6-2x']),
    ('Rationalize $\\frac{1}{\\sqrt{5}}$.', '\\frac{\\sqrt{5}}{5}', [], ['\\frac{1}{\\sqrt5}', '5^{-1/2}', '\\sqrt{1/5}']),
    ('Compute $(2+3i)(1-i)$.', '5+i', [], ['(2+3i)(1-i)', '2-2i+3i-3i^2', '2+3i-2i+3']), ('Evaluate $3!+4!$.', '30', [], ['3!+4!', '6+24']),
    ('What is $2^{10}$?', '1024', [], ['2^{10}', '4^5', '32^2', '2^{5}\\cdot2^5', '1024^1']),
    ('Find the sum $1+2+\\cdots+100$.', '5050', [], ['1+2+\\cdots+100', '\\frac{100\\cdot101}{2}', '\\sum_{k=1}^{100}k', '50\\cdot101']),
    ('Find the derivative of $\\sin x$.', '\\cos x', [], ['\\frac{d}{dx}\\sin x', "(\\sin x)'"]),
    ('Evaluate $\\log_2 32$.', '5', [], ['\\log_2 32', '\\frac{\\ln32}{\\ln2}', '\\log_2 2^5']),
    ('Evaluate $\\sin 30^\\circ$.', '\\frac12', [], ['\\sin 30^\\circ', '\\cos 60^\\circ', '\\sin\\frac{\\pi}{6}']),
    ('Solve $x^2-5x+6=0$.', '2,3', ['x=2,3', 'x=2 \\text{ or } x=3', '\\{2,3\\}', 'x\\in\\{2,3\\}', '3,2'], ['x^2-5x+6=0', '(x-2)(x-3)=0',
     '\\{x: x^2-5x+6=0\\}', '\\frac{5\\pm\\sqrt{25-24}}{2}', '\\frac{5\\pm1}{2}']),
    ('Order $\\sin 1, \\sin 2, \\sin 3$ from least to greatest.', '\\sin 3, \\sin 1, \\sin 2', ['\\sin 3, \\sin 1, \\sin 2',
     '\\sin 3 < \\sin 1 < \\sin 2', '\\sin 3<\\sin 1<\\sin 2'], ['\\sin 1 < \\sin 2 < \\sin 3', '\\sin 1, \\sin 2, \\sin 3',
     '\\sin 1<\\sin 2<\\sin 3', '\\{\\sin 1, \\sin 2, \\sin 3\\}']),
    ('Which is larger, $2^{100}$ or $3^{60}$?', '2^{100}', ['2^{100}'], ['3^{60}', '\\max(2^{100},3^{60})', '2^{100}\\text{ or }3^{60}']),
    ('Order $\\sin 1, \\sin 2, \\sin 3$ from least to greatest.', '\\sin 3<\\sin 1<\\sin 2', ['\\sin 3, \\sin 1, \\sin 2'], []),
    ('Arrange the numbers $0.5, \\frac{1}{3}, 0.7$ in increasing order.', '\\frac13, 0.5, 0.7', ['\\frac{1}{3}, 0.5, 0.7'], []),
    ('Arrange the numbers $0.5, \\frac{1}{3}, 0.7$ in increasing order.', '\\frac{1}{3}, 0.5, 0.7', [], ['0.5, \\frac{1}{3}, 0.7',
     '0.7, 0.5, \\frac{1}{3}']),
    ('Ann is taller than Bob, and Cid is taller than Ann. List Ann, Bob and Cid from the shortest to the tallest.', 'Bob, Ann, Cid',
     ['\\text{Bob, Ann, Cid}', '\\text{Bob}, \\text{Ann}, \\text{Cid}'], ['\\text{Ann, Bob, Cid}',
     '\\text{Cid}, \\text{Ann}, \\text{Bob}']),
    ('Find all solutions. List your answers in increasing order, separated by commas.', '-2,3', ['3,-2'], []),
    ('Find all solutions. List your answers in increasing order.', '-2,3', ['-2,3'], []),
    ('How long is it?', '6\\sqrt{2}', ['8.485281'], []), ('Give the exact value of the length of 2 m.', '6\\sqrt{2}', [], ['8.485281']),
    ('How many cents are left?', '90', ['90', '90\\text{ cents}', '90¢'], ['\\$90', '90\\text{ dollars}', '90\\text{ euros}', '0.90']),
    ('How many hours did it take?', '3', ['3\\text{ hours}', '3\\text{ hr}', '3'], ['3\\text{ minutes}', '3\\text{ days}', '180']),
    ('How many apples?', '12', ['12\\text{ apples}', '12\\text{ red apples}'], ['12\\text{ oranges}', '12\\text{ dozen}',
     '12\\text{ pounds}', '12\\text{ pairs}']),
    ('What is the area in square meters?', '25', ['25\\text{ m}^2', '25', '25\\text{ square meters}'], ['25\\text{ m}', '25\\text{ cm}^2',
     '25\\text{ m}^3', '25\\text{ ft}^2']),
    ('What is the temperature in Celsius?', '5^\\circ C', ['5^\\circ\\text{C}', '5', '5\\text{ degrees Celsius}'], ['5^\\circ F',
     '5\\text{ K}', '-5^\\circ C']),
    ('What percentage is blue?', '60', ['60', '60\\%', '60\\text{ percent}'], ['0.6', '0.60', '\\frac{3}{5}', '6\\%', '600']),
    ('What is the probability?', '0.15', ['15\\%', '\\frac{3}{20}', '0.15'], ['15', '1.5', '15\\text{ percent points}']),
    ('', '5\\text{ miles}', [], ['5\\text{ nautical miles}', '5\\text{ km}', '5\\text{ miles}^2', '5\\text{ miles per hour}',
     '5\\text{ light miles}']),
    ('', '5\\text{ gallons}', [], ['5\\text{ imperial gallons}', '5\\text{ liters}', '5\\text{ gallons per minute}']),
    ('', '\\$5', ['5', '5\\text{ dollars}', '\\$5.00', '5.00'], ['5\\text{ cents}', '\\text{€}5', '5\\%', '5\\text{k}']),
    ('', '30^\\circ', ['30', '30\\text{ degrees}'], ['30\\text{ rad}', "30'", '30\\%', '\\frac{\\pi}{3}']),
    ('Evaluate $2^5$.', '32', ['32', '2^5=32'], ['2^5', '2\\cdot2\\cdot2\\cdot2\\cdot2', '4\\cdot8', '2^4\\cdot2', '\\sqrt{1024}', '32^1']),
    ('If f(x)=x^2+1, what is f(3)?', '10', ['10', 'f(3)=10'], ['f(3)', '3^2+1', '9+1']),
    ('Express $\\frac{1}{3}$ as a decimal.', '0.\\overline{3}', ['0.\\overline{3}', '0.\\dot3', '0.\\overline{33}'], ['\\frac13', '1/3',
     '33\\frac13\\%']),
    ('Reduce $\\frac{45}{60}$.', '\\frac34', [], ['\\frac{45}{60}', '\\frac{9}{12}', '\\frac{15}{20}', '45:60']),
    ('Simplify $\\frac{2}{1+i}$.', '1-i', ['1-i', '-i+1'], ['\\frac{2}{1+i}', '\\frac{2}{i+1}', '\\frac{-2}{-1-i}', '2(1+i)^{-1}']),
    ('Expand $(a+b)^2$.', 'a^2+2ab+b^2', [], ['(a+b)^2', '(a+b)(a+b)', 'a(a+b)+b(a+b)', '(b+a)^2']),
    ('Write in interval notation: $x>2$', '(2,\\infty)', ['(2,\\infty)', '(2,+\\infty)'], ['x>2', '2<x', 'x \\gt 2']),
    ('Find the slope-intercept form of $2x+y=5$.', 'y=-2x+5', ['y=-2x+5', 'y=5-2x'], ['2x+y=5', 'y+2x=5', 'y-5=-2x', 'x=\\frac{5-y}{2}']),
    ('Calculate $15\\%$ of 80.', '12', [], ['15\\%\\cdot80', '0.15\\times80', '\\frac{15\\cdot80}{100}']),
    ('Add $1.5$ and $2.75$.', '4.25', [], ['1.5+2.75', '1.5+2.75+0', '\\frac{3}{2}+\\frac{11}{4}']),
    ('Convert $\\frac{11}{4}$ to a decimal.', '2.75', [], ['\\frac{11}{4}', '2\\frac34', '275\\%']),
    ('Compute $|{-7}|$.', '7', [], ['|-7|', '|7|', '-(-7)', '\\sqrt{49}']),
    ('What is the square root of 144?', '12', [], ['\\sqrt{144}', '144^{1/2}', '144^{0.5}']),
    ('Find the value of $\\binom{6}{2}$.', '15', [], ['\\binom{6}{2}', '\\binom{6}{4}', '\\frac{6!}{2!4!}', 'C(6,2)', '{}_6C_2', 'C_6^2',
     '6C2']),
    ('What is $(3,4)+(1,2)$?', '(4,6)', ['(4,6)'], ['(3,4)+(1,2)', '(3+1,4+2)', '(3+1,6)']),
    ('Solve $3x=12$.', '4', ['4', 'x=4'], ['3x=12', 'x=12/3', '\\frac{12}{3}', 'x=\\frac{12}{3}']),
    ('Solve $|x|=3$.', '3,-3', ['\\pm3', 'x=\\pm 3', '-3,3'], ['|x|=3', 'x=3', '\\sqrt{9}']),
    ('Solve $x^2<4$.', '(-2,2)', ['-2<x<2', '(-2,2)'], ['x^2<4', 'x<2', '|x|<2', '[-2,2]']),
]  # fmt: skip


def verdict(question: str, reference: str, completion: str) -> bool:
    return math_answer(Problem("p", question, reference), completion).value == 1


@pytest.mark.parametrize(("question", "reference", "right", "wrong"), BOXED)
def test_the_form_asked_is_paid_and_its_question_is_not(
    question: str, reference: str, right: list[str], wrong: list[str]
) -> None:
    paid = {a: verdict(question, reference, f"Therefore, the final answer is $\\boxed{{{a}}}$.") for a in right + wrong}
    assert [a for a in right if not paid[a]] == []
    assert [a for a in wrong if paid[a]] == []
