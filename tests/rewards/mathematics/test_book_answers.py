"""Answers as books give them: vectors with factors, places of extrema, degrees with minutes, sides, values in a sentence."""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Problem


def box(answer: str) -> str:
    return f"Therefore, the final answer is $\\boxed{{{answer}}}$."


RIGHT = [  # question, reference, completion
    ('', '\\mathbf{y}=c_{1}\\left[\\begin{array}{l}4 \\\\ 3\\end{array}\\right] e^{-t}+c_{2}\\left(\\left[\\begin{array}{r}-1 \\\\ 0\\end{array}\\right] \\frac{e^{-t}}{2}+\\left[\\begin{array}{l}4 \\\\ 3\\end{array}\\right] t e^{-t}\\right)', box('\\mathbf{y}=c_{1}\\left[\\begin{array}{l}4 \\\\ 3\\end{array}\\right] e^{-t}+c_{2}\\left(\\left[\\begin{array}{r}-1 \\\\ 0\\end{array}\\right] \\frac{e^{-t}}{2}+\\left[\\begin{array}{l}4 \\\\ 3\\end{array}\\right] t e^{-t}\\right)')),
    ('', '\\mathbf{y}=c_{1}\\left[\\begin{array}{l}4 \\\\ 3\\end{array}\\right] e^{-t}+c_{2}\\left(\\left[\\begin{array}{r}-1 \\\\ 0\\end{array}\\right] \\frac{e^{-t}}{2}+\\left[\\begin{array}{l}4 \\\\ 3\\end{array}\\right] t e^{-t}\\right)', box('\\mathbf{y}=c_1 e^{-t}\\begin{pmatrix}4\\\\3\\end{pmatrix}+c_2 e^{-t}\\left(\\begin{pmatrix}-1/2\\\\0\\end{pmatrix}+t\\begin{pmatrix}4\\\\3\\end{pmatrix}\\right)')),
    ('', '\\frac{1}{10}\\begin{pmatrix}1\\\\3\\end{pmatrix}', box('\\frac{1}{10}\\begin{pmatrix}1\\\\3\\end{pmatrix}')),
    ('', '\\frac{1}{10}\\begin{pmatrix}1\\\\3\\end{pmatrix}', box('\\begin{pmatrix}1/10\\\\3/10\\end{pmatrix}')),
    ('', 'Solution is: $[x=-1, y=-5, z=4]$', box('x=-1, y=-5, z=4')), ('', 'Solution is: $[x=-1, y=-5, z=4]$', box('(-1,-5,4)')),
    ('', '$\\max$ at $x=2$, min at $x=4$', box('\\text{max at } x=2, \\text{ min at } x=4')), ('', '$\\min$ at $x=1$', box('x=1')),
    ('', '$\\min$ at $x=1$', box('1')), ('', '$\\min$ at $x=1$', box('\\text{local minimum at } x=1')),
    ('', '$63^{\\circ} 45^{\\prime}$', box("63^\\circ 45'")), ('', '$63^{\\circ} 45^{\\prime}$', box('63.75^\\circ')),
    ('', '$63^{\\circ} 45^{\\prime}$', box('63°45′')), ('', '$10 \\mathrm{ft} x 18 \\mathrm{ft}$', box('10 \\text{ ft by } 18 \\text{ ft}')),
    ('', '$10 \\mathrm{ft} x 18 \\mathrm{ft}$', box('10 \\text{ ft} \\times 18 \\text{ ft}')),
    ('', '$x \\neq \\pm 5$', box('(-\\infty,-5)\\cup(-5,5)\\cup(5,\\infty)')), ('', '$x \\neq \\pm 5$', box('x\\ne\\pm5')),
    ('', 'The mode is $1 / 3$.', box('1/3')), ('', 'The steady state current is 2 amps.', box('2')),
    ('', 'local min. $(1,0)$; saddle pt. $(-1,0)$', box('\\text{local min at }(1,0),\\text{ saddle point at }(-1,0)')),
    ('', 'a_{n+1}=2a_n', box('a_{n+1}=2a_{n}')), ('', '\\{1,2\\}', box('\\{1,2\\}')),
    ('', 'f(x)=\\begin{cases}1 & x>0\\\\0 & x\\le0\\end{cases}', box('f(x)=\\left\\{\\begin{array}{ll}1 & x>0\\\\0 & x\\le0\\end{array}\\right.')),
]  # fmt: skip
WRONG = [
    ('', '\\mathbf{y}=c_{1}\\left[\\begin{array}{l}4 \\\\ 3\\end{array}\\right] e^{-t}+c_{2}\\left(\\left[\\begin{array}{r}-1 \\\\ 0\\end{array}\\right] \\frac{e^{-t}}{2}+\\left[\\begin{array}{l}4 \\\\ 3\\end{array}\\right] t e^{-t}\\right)', box('\\mathbf{y}=c_1 e^{-t}\\begin{pmatrix}4\\\\3\\end{pmatrix}+c_2 e^{-t}\\left(\\begin{pmatrix}-1/2\\\\0\\end{pmatrix}+t\\begin{pmatrix}4\\\\2\\end{pmatrix}\\right)')),
    ('', '\\mathbf{y}=c_{1}\\left[\\begin{array}{l}4 \\\\ 3\\end{array}\\right] e^{-t}+c_{2}\\left(\\left[\\begin{array}{r}-1 \\\\ 0\\end{array}\\right] \\frac{e^{-t}}{2}+\\left[\\begin{array}{l}4 \\\\ 3\\end{array}\\right] t e^{-t}\\right)', box('c_1 e^{-t}\\begin{pmatrix}4\\\\3\\end{pmatrix}')),
    ('Compute $2\\begin{pmatrix}1\\\\2\\end{pmatrix}$', '\\begin{pmatrix}2\\\\4\\end{pmatrix}', box('2\\begin{pmatrix}1\\\\2\\end{pmatrix}')),
    ('Compute $\\begin{pmatrix}1\\\\2\\end{pmatrix}+\\begin{pmatrix}3\\\\4\\end{pmatrix}$', '\\begin{pmatrix}4\\\\6\\end{pmatrix}', box('\\begin{pmatrix}1\\\\2\\end{pmatrix}+\\begin{pmatrix}3\\\\4\\end{pmatrix}')),
    ('', '\\frac{1}{10}\\begin{pmatrix}1\\\\3\\end{pmatrix}', box('\\frac{1}{10}\\begin{pmatrix}3\\\\1\\end{pmatrix}')),
    ('', '\\frac{1}{10}\\begin{pmatrix}1\\\\3\\end{pmatrix}', box('10\\begin{pmatrix}1\\\\3\\end{pmatrix}')),
    ('', '\\begin{pmatrix}7\\\\10\\end{pmatrix}', box('\\begin{pmatrix}1\\\\2\\end{pmatrix}\\begin{pmatrix}3\\\\4\\end{pmatrix}')),
    ('', 'Solution is: $[x=-1, y=-5, z=4]$', box('x=-1, y=4, z=-5')),
    ('', '$\\max$ at $x=2$, min at $x=4$', box('\\text{max at } x=4, \\text{ min at } x=2')),
    ('', '$\\max$ at $x=2$, min at $x=4$', box('\\text{max at } x=2')), ('', '$\\min$ at $x=1$', box('\\text{max at } x=1')),
    ('', '$\\min$ at $x=1$', box('\\text{max at } 1')), ('', '$63^{\\circ} 45^{\\prime}$', box('63^\\circ')),
    ('', '$63^{\\circ} 45^{\\prime}$', box("63^\\circ 54'")),
    ('Convert $63^{\\circ} 45^{\\prime}$ to decimal degrees.', '63.75^\\circ', box("63^\\circ 45'")),
    ('', '$10 \\mathrm{ft} x 18 \\mathrm{ft}$', box('180\\text{ ft}^2')),
    ('', '180\\text{ ft}^2', box('10 \\text{ ft} \\times 18 \\text{ ft}')), ('', '$10 \\mathrm{ft} x 18 \\mathrm{ft}$', box('10\\text{ ft}')),
    ('', '$x \\neq \\pm 5$', box('x\\ne5')), ('', '$x \\neq \\pm 5$', box('x=\\pm5')), ('', 'The mode is $1 / 3$.', box('2/3')),
    ('', 'local min. $(1,0)$; saddle pt. $(-1,0)$', box('\\text{local min at }(-1,0),\\text{ saddle point at }(1,0)')),
    ('', 'a_{n+1}=2a_n', box('a_{n}=2a_{n+1}')), ('', 'a_{n+1}=2a_n', box('a_{n+2}=2a_{n}')),
]  # fmt: skip


@pytest.mark.parametrize(("question", "reference", "completion"), RIGHT)
def test_a_book_answer_is_read(question: str, reference: str, completion: str) -> None:
    assert math_answer(Problem("p", question, reference), completion).value == 1


@pytest.mark.parametrize(("question", "reference", "completion"), WRONG)
def test_another_answer_than_the_books_is_wrong(question: str, reference: str, completion: str) -> None:
    assert math_answer(Problem("p", question, reference), completion).value == 0
