"""Repeating the question is no answer, however equal it is."""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Outcome, Problem


@pytest.mark.parametrize(
    ("question", "answer", "completion"),
    [
        ("59 + 37 =", "96", "To add 59 + 37, we need to follow the order of operations"),
        ("59 + 37 =", "96", "The answer is 59 + 37."),
        ("59 + 37 =", "96", r"\boxed{59+37}"),
        ("59 + 37 =", "96", r"\boxed{37+59}"),
        ("59 + 37 =", "96", r"\boxed{90+6}"),
        ("59 + 37 =", "96", r"\boxed{100 - 4}"),
        ("12 * 8 =", "96", r"\boxed{8 \cdot 12}"),
        ("What is 192/2?", "96", r"\boxed{\frac{192}{2}}"),
        ("Compute $2^{10}$.", "1024", r"\boxed{2^{10}}"),
        ("Compute $5!$.", "120", r"\boxed{5!}"),
        ("Simplify $\\frac{10}{20}$.", "\\frac{1}{2}", r"\boxed{\frac{10}{20}}"),
        ("Simplify $\\frac{10}{20}$.", "\\frac{1}{2}", r"\boxed{10/20}"),
        ("Evaluate $\\log_2 8$.", "3", r"\boxed{\log_2(8)}"),
        ("Evaluate $\\sin 30^\\circ$.", "\\frac12", r"\boxed{\sin(\pi/6)}"),
        ("Evaluate $\\sqrt{16}$.", "4", r"\boxed{\sqrt{2^4}}"),
        ("What is 46 * 10?", "460", r"\boxed{46 \cdot 10}"),
        ("Half of ten?", "5", r"\boxed{10:2}"),
    ],
)
def test_an_unworked_answer_is_wrong(question: str, answer: str, completion: str) -> None:
    assert math_answer(Problem("p", question, answer), completion).outcome is Outcome.WRONG


@pytest.mark.parametrize(
    ("question", "answer", "completion"),
    [
        ("59 + 37 =", "96", "59 + 37 = 96"),
        ("59 + 37 =", "96", "The answer is 96."),
        ("Half of three?", "3/2", r"\boxed{1\frac{1}{2}}"),
        ("Half of three?", "1.5", r"\boxed{\frac{3}{2}}"),
        ("Half of three?", "1.5", r"\boxed{\frac{6}{4}}"),
        ("In metres?", "1500", r"\boxed{1.5 \times 10^{3}}"),
        ("Factor 12.", "2^2 \\cdot 3", r"\boxed{3 \cdot 2^2}"),
        ("Roots?", "1+\\sqrt{2}", r"\boxed{\sqrt{2}+1}"),
        ("Expand.", "x^2+2x+1", r"\boxed{1+2x+x^2}"),
        ("Which is larger, 3/4 or 2/3?", "\\frac{3}{4}", r"\boxed{3/4}"),
        ("Point?", "(3, \\frac{\\pi}{2})", r"\boxed{\left(3,\frac{\pi}{2}\right)}"),
        ("Cost?", "1200", "The total is $1,200."),
        ("Share?", "50\\%", r"\boxed{50\%}"),
        ("Which? (A) 1 (B) 42", "B", r"\boxed{\textbf{(B)}\ 42}"),
        ("Which? (A) 1 (B) 42", "42", r"\boxed{\textbf{(B)}\ 42}"),
        ("How long?", "0.693147", r"\boxed{\ln 2}"),
        ("Ratio?", "3:4", r"\boxed{6:8}"),
        ("Ratio?", "2:1", r"\boxed{4:2}"),
        ("Ratio?", "3/4", r"\boxed{3:4}"),
    ],
)
def test_a_worked_out_answer_is_right(question: str, answer: str, completion: str) -> None:
    assert math_answer(Problem("p", question, answer), completion).outcome is Outcome.CORRECT
