"""Groups, commands and signs around a box: few leave it what it is."""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Problem

CHANGED = [
    '-\\boxed{42}', '- $-\\boxed{42}$', 'The value is -\\boxed{42}.', '10 - \\boxed{42}', '$x - \\boxed{42}$', '(3) - \\boxed{42}',
    '$\\pm\\boxed{42}$', '{\\boxed{42}}^2', '$(\\boxed{42})^n$', '\\boxed{42}^n', '\\boxed{42}e3', '\\boxed{42}E+3', '\\boxed{42}+x',
    '\\boxed{42}*n', '\\boxed{42}/n', '\\boxed{42}+\\sqrt2', '\\neg\\boxed{42}', '\\lnot \\boxed{42}', '\\lfloor\\boxed{42}\\rfloor',
    '|\\boxed{42}|', '\\Delta\\boxed{42}', '\\nabla \\boxed{42}', '\\sum\\boxed{42}', '\\overline{\\boxed{42}}', '\\bar{\\boxed{42}}',
    '\\sqrt[3]{ \\boxed{42}}', '\\frac{\\boxed{42}}{7}', '\\frac{7}{x+\\boxed{42}}', 'x_{n+\\boxed{42}}', '2^{n \\boxed{42}}',
    '\\footnote{\\boxed{42}}', '7\\footnote{see \\boxed{42}}', '\\label{\\boxed{42}}', '\\tag{\\boxed{42}}', '\\DeclareMathOperator{\\x}{\\boxed{42}}',
    '\\textcolor{\\boxed{42}}{7}', '\\href{\\boxed{42}}{7}', '\\mathbf{\\overline{\\boxed{42}}}', '\\cite{\\boxed{42}}',
    '\\text{not }\\boxed{42}', '\\text{except }\\boxed{42}', '\\textbf{half of }\\boxed{42}', 'The negation of \\boxed{42}.',
    'Neither \\boxed{41} nor \\boxed{42}',
    '$\\boxed{42}!$', '$\\boxed{42}\\cdot2$', '$(\\boxed{42},1)$', '$\\boxed{42}:1$', '$\\boxed{42}_8$', '$\\boxed{42}\\text{ or }43$', '$\\boxed{42},43$',
    '$41,\\boxed{42}$', '$\\boxed{42}\\pm1$', '$\\boxed{42}\\text{ if } x=1$', "$\\boxed{42}'$", '$\\boxed{42}^*$', '$\\boxed{42}\\bmod5$',
    '$\\boxed{42}\\to\\infty$', '$\\boxed{42}\\choose2$', '$\\boxed{42}\\over2$', '$\\boxed{42}<x$', '$\\boxed{42}\\ldots$', '$\\ldots\\boxed{42}\\ldots$',
    '$\\boxed{42}e$', '$\\boxed{42}$M', '\\[\\boxed{42}(x+1)\\]', '\\begin{align}\\boxed{42}\\quad 43\\end{align}', '$\\boxed{42}\\leq 50$',
]  # fmt: skip
SHOWN = [
    '- \\boxed{42}', '* \\boxed{42}', 'Answer - \\boxed{42}', '\\textbf{\\boxed{42}}', '\\mathbf{\\boxed{42}}', '{\\color{red}\\boxed{42}}',
    '\\textcolor{blue}{\\boxed{42}}', '\\fcolorbox{red}{white}{$\\boxed{42}$}', '\\colorbox{yellow}{$\\boxed{42}$}', '\\href{x}{\\boxed{42}}',
    '$\\displaystyle{\\boxed{42}}$', '\\underline{\\boxed{42}}', '\\bm{\\boxed{42}}', '\\begin{align}x&=\\boxed{42}\\end{align}',
    '\\begin{tabular}{c}\\boxed{42}\\end{tabular}', '\\text{The answer is }\\boxed{42}', '\\therefore \\boxed{42}', '\\Rightarrow\\boxed{42}',
    'x\\approx\\boxed{42}', '$40+2\\quad\\boxed{42}$', '| Total | \\boxed{42} |', '{"answer": "\\boxed{42}"}', '$\\boxed{42}^\\circ$',
    '**\\boxed{42}**', '\\boxed{42}/day', '\\boxed{42}+', '\\frac{84}{2} = \\boxed{42}', '\\sqrt{1764}=\\boxed{42}', '\\{x\\} = \\boxed{42}',
    'The answer is not 41. It is \\boxed{42}.',
    '$\\boxed{42}\\text{ cm}^2$', '$\\boxed{42}\\,\\mathrm{cm}$', '$\\boxed{42}\\textrm{ m}$', '\\[\\boxed{42}\\text{.}\\]', '$\\boxed{42}$, $43-1=42$.',
    'It costs $5, so \\boxed{42}, and $6 more.', '$$\\boxed{42}\\quad\\text{(since 6*7=42)}$$', '$\\boxed{42}\\text{ for all }x$', '$\\boxed{42}=6\\cdot7$',
    '\\begin{align*}x&=6\\cdot7\\\\&=\\boxed{42}.\\end{align*}', '$\\boxed{42}\\;\\blacksquare$', '$n\\equiv\\boxed{42}\\pmod{100}$', '$\\boxed{42}\\ cm$',
    '$\\boxed{42} \\in \\mathbb{Z}$', '$\\boxed{42}\\text{ or }\\boxed{42}$', '$a = \\boxed{42}, b = 3$', '$\\left[\\boxed{42}\\right]$', '\\$\\boxed{42}',
    'The answer is \\boxed{42}!', '$\\boxed{42}^{\\text{th}}$',
]  # fmt: skip


@pytest.mark.parametrize("completion", CHANGED)
def test_a_box_within_something_else_is_no_answer(completion: str) -> None:
    assert math_answer(Problem("p", "", "42"), completion).value == 0


@pytest.mark.parametrize("completion", SHOWN)
def test_a_box_that_is_only_dressed_is_an_answer(completion: str) -> None:
    assert math_answer(Problem("p", "", "42"), completion).value == 1


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("$\\boxed{\\text{(B)}} 3(1 + r)^x = 7$", 1),
        ("$\\boxed{B}\\text{ Bob}$", 1),
        ("$\\boxed{B}, C$", 0),
        ("$\\boxed{B}\\text{ or }C$", 0),
        ("$\\boxed{B}C$", 0),
    ],
)
def test_an_option_may_be_followed_by_its_text_and_by_no_other_letter(completion: str, right: int) -> None:
    assert math_answer(Problem("p", "", "B"), completion).value == right
