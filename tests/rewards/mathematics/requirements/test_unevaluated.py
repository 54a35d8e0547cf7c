"""A calculation left to do is no answer, however equal it is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.math_answer import math_answer
from rewards.rules import Rules
from rewards.types import Outcome, Problem

DISGUISES = [
    "{}", "{}e^0", "{}\\cdot 1", "{}\\frac{{x}}{{x}}", "\\sqrt{{{}}}^2", "\\frac{{{}x}}{{x}}", "({}+t)-t", "{}^1", "\\frac{{{}}}{{1}}",
    "{}\\ln e", "{}|i|", "-{}i^2", "{}\\cos 0", "{}(\\sin^2 x+\\cos^2 x)", "\\log_2 2^{{{}}}", "{}\\cdot 0!", "{}\\binom{{5}}{{0}}", "\\lfloor {}.5\\rfloor",
]  # fmt: skip


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
        # a number in disguise is a number
        ("83 + 45 =", "128", r"\boxed{83+45e^0}"),
        ("83 + 45 =", "128", r"\boxed{83-45i^2}"),
        ("83 + 45 =", "128", r"\boxed{83+45\cdot\frac{y}{y}}"),
        ("83 + 45 =", "128", r"\boxed{(83+y)+(45-y)}"),
        ("83 + 45 =", "128", r"\boxed{\frac{83a+45a}{a}}"),
        ("83 + 45 =", "128", r"\boxed{83+\sqrt{45}^2}"),
        ("83 + 45 =", "128", r"\boxed{83+45\sin^2 t+45\cos^2 t}"),
        ("83 + 45 =", "128", r"\boxed{n=83+45}"),
        ("Evaluate the cube.", "729", r"\boxed{9^3}"),
        ("Evaluate the root.", "6", r"\boxed{36^{1/2}}"),
        ("What is 5/9 divided by 2/3?", r"\frac{5}{6}", r"\boxed{\frac{\frac{5}{9}}{\frac{2}{3}}}"),
        ("What is the product?", r"\frac{10}{21}", r"\boxed{\frac{2/3}{7/5}}"),
        ("Collect the terms.", "7y", r"\boxed{3y+4y}"),
        ("Collect the terms.", "7y+1", r"\boxed{7y+1+0}"),
        ("Collect the terms.", "7y+1", r"\boxed{(7y+1)\cdot 1}"),
        ("Collect the terms.", "-7y-1", r"\boxed{-1(7y+1)}"),
        ("Collect the terms.", "7y+1", r"\boxed{\frac{7y+1}{1}}"),
        ("How long?", r"3\sqrt{2}", r"\boxed{\sqrt{9\cdot 2}}"),
        ("How far?", r"\frac{1}{2}", r"\boxed{\cos(\pi/3)}"),
        ("Which number?", "1+2i", r"\boxed{(-3+4i)(\frac{1}{5}-\frac{2i}{5})}"),
        ("Which number?", "1+2i", r"\boxed{\frac{-3+4i}{1+2i}}"),
        ("Which number?", "-3+4i", r"\boxed{(1+2i)^2}"),
    ],
)
def test_an_unworked_answer_is_wrong(question: str, answer: str, completion: str) -> None:
    assert math_answer(Problem("p", question, answer), completion).outcome in (Outcome.WRONG, Outcome.NO_ANSWER)


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
        ("How much?", "14-i", r"\boxed{14.0 + -1.0i}"),
        ("How much?", r"\frac{1}{46}\binom{2024}{990}+\frac{1}{2}", r"\boxed{\frac{\binom{2024}{990}+23}{46}}"),
        ("Circle?", "(x-1)^2+(y+2)^2=25", r"\boxed{(x-1)^2+(y+2)^2=5^2}"),
        ("Roots?", r"\frac{3+i\sqrt{3}}{2}", r"\boxed{2+e^{2\pi i/3}}"),
        ("Factors?", r"2^6 \cdot 3^5", r"\boxed{2^6 3^5}"),
        ("How long?", r"3\sqrt{2}", r"\boxed{\sqrt{18}}"),
        ("How many?", "1000000", r"\boxed{10^6}"),
    ],
)
def test_a_worked_out_answer_is_right(question: str, answer: str, completion: str) -> None:
    assert math_answer(Problem("p", question, answer), completion).outcome is Outcome.CORRECT


@pytest.mark.parametrize("left", [r"3 \cdot 4", r"\sqrt{144}", "7+5", "24/2", "12e^0"])
def test_a_setting_accepts_calculations_left_to_do(left: str) -> None:
    problem = Problem("p", "How many?", "12")
    assert math_answer(problem, rf"\boxed{{{left}}}").value == 0
    assert math_answer(problem, rf"\boxed{{{left}}}", rules=Rules(unevaluated="accept")).value == 1
    assert math_answer(problem, rf"\boxed{{{left}+1}}", rules=Rules(unevaluated="accept")).value == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 500), st.integers(2, 500), st.sampled_from(DISGUISES))
def test_no_disguise_turns_a_sum_into_its_value(left: int, right: int, disguise: str) -> None:
    text = f"\\boxed{{{left}+{disguise.format(right)}}}"
    assert math_answer(Problem("p", f"{left} + {right} =", str(left + right)), text).value == 0
