"""The question in another spelling is no answer, and the form that it asks for is part of the answer."""

import pytest

from rewards.math_answer import math_answer
from rewards.rules import Rules
from rewards.types import Problem

RESPELT = [
    (r"Express $0.\overline{27}$ as a common fraction in lowest terms.", r"\frac{3}{11}", r"0.\overline{27}"),
    (r"Express $0.\overline{27}$ as a common fraction in lowest terms.", r"\frac{3}{11}", "27/99"),
    ("Express 5/16 as a decimal.", "0.3125", "5/16"), ("Express 5/16 as a decimal.", "0.3125", "10/32"),
    ("Write 35\\% as a common fraction.", r"\frac{7}{20}", "35\\%"), ("Write 0.35 as a fraction.", r"\frac{7}{20}", "0.35"),
    (r"Simplify $\frac{10}{14}$.", r"\frac{5}{7}", "20/28"), (r"Reduce $\frac{10}{14}$ to lowest terms.", r"\frac{5}{7}", "10/14"),
    ("Write 0.00045 in scientific notation.", r"4.5 \times 10^{-4}", "0.00045"),
    ("Convert $2\\frac{1}{3}$ to an improper fraction.", r"\frac{7}{3}", r"2\frac{1}{3}"),
    ("Expand $(y+1)(y+4)$.", "y^2+5y+4", "(y+4)(y+1)"), ("Expand $(y+1)(y+4)$.", "y^2+5y+4", "y(y+4)+1(y+4)"),
    ("Factor $y^2+5y+4$.", "(y+1)(y+4)", "4+5y+y^2"), ("Factor $y^2+5y+4$.", "(y+1)(y+4)", "y(y+5)+4"),
    ("Factor completely: $2y^3-8y$", "2y(y-2)(y+2)", "2y(y^2-4)"),
    (r"Simplify $\frac{13}{3-2i}$.", "3+2i", r"\frac{-13}{2i-3}"), (r"Simplify $\frac{13}{3-2i}$.", "3+2i", r"\frac{13(3+2i)}{(3-2i)(3+2i)}"),
    ("Simplify $(y+2)^2-y^2$.", "4y+4", "(y+2)^2-y^2+0"), ("Simplify $(y+2)^2-y^2$.", "4y+4", "(2+y)(y+2)-y^2"),
    ("What is $3^4$?", "81", "(-3)^4"), ("What is $3^4$?", "81", "3.0^{4}"), ("Compute $6!$.", "720", "(6!)^1"), ("Compute $6!$.", "720", r"6\cdot 5!"),
    (r"Compute $\binom{8}{3}$.", "56", r"\binom{8}{3.0}"), (r"Compute $\binom{8}{3}$.", "56", r"\binom{8}{5}"),
    (r"Simplify $\sqrt{50}$.", r"5\sqrt{2}", r"50^{1/2}"), (r"Simplify $\sqrt{50}$.", r"5\sqrt{2}", r"\frac{10}{\sqrt{2}}"),
    (r"Rationalize $\frac{3}{\sqrt{5}}$.", r"\frac{3\sqrt{5}}{5}", r"3/\sqrt{5}"),
    ("Write $y-1=4x$ in slope-intercept form.", "y=4x+1", "2y-2=8x"), ("Write $y-1=4x$ in slope-intercept form.", "y=4x+1", "y-1=4x"),
    ("Solve for $y$: $4x-2y=6$", "y=2x-3", "2x-y=3"), ("Write $y=4x+1$ in standard form.", "4x-y=-1", "y=4x+1"),
    ("Solve and give interval notation: $2x < 6$", r"(-\infty, 3)", "x<3"),
]  # fmt: skip

ANSWERED = [
    ("Expand $(y+1)(y+4)$.", "y^2+5y+4", "4+5y+y^2"), ("Factor $y^2+5y+4$.", "(y+1)(y+4)", "(y+4)(y+1)"),
    (r"Simplify $\frac{13}{3-2i}$.", "3+2i", "2i+3"), ("Simplify $(y+2)^2-y^2$.", "4y+4", "4(y+1)"), (r"Simplify $\sqrt{50}$.", r"5\sqrt{2}", r"\sqrt{2}\cdot 5"),
    ("Which is larger, $\\frac{5}{7}$ or $\\frac{2}{3}$?", r"\frac{5}{7}", "5/7"), ("Order these: $\\sin 1$, $\\cos 1$.", r"\cos 1, \sin 1", r"\cos(1), \sin(1)"),
    ("Which of $x^2+1$ and $x^2-1$ is positive?", "x^2+1", "1+x^2"), ("A coin has a 50% chance of heads. What is the probability of tails?", r"\frac12", "50%"),
    ("Express 5/16 as a decimal.", "0.3125", ".3125"), ("Write 35\\% as a common fraction.", r"\frac{7}{20}", "7/20"), ("Expand the product.", "y^2+5y+4", "(y+1)(y+4)"),
    ("Find the line through $(0,1)$ with slope 4.", "y=4x+1", "4x-y+1=0"), (r"What is $\frac{2}{4}+\frac{1}{4}$?", r"\frac{3}{4}", "6/8"),
    ("Write 0.00045 in scientific notation.", r"4.5 \times 10^{-4}", r"4.5\cdot10^{-4}"), ("Write $y=4x+1$ in standard form.", "4x-y=-1", "y-4x=1"),
]  # fmt: skip


def value(question: str, reference: str, answer: str, rules: Rules | None = None) -> float:
    return math_answer(
        Problem("p", question, reference), rf"So it is $\boxed{{{answer}}}$.", rules=rules or Rules()
    ).value


@pytest.mark.parametrize(("question", "reference", "answer"), RESPELT)
def test_the_question_respelt_is_wrong(question: str, reference: str, answer: str) -> None:
    assert value(question, reference, answer) == 0
    assert value(question, reference, reference) == 1


@pytest.mark.parametrize(("question", "reference", "answer"), ANSWERED)
def test_an_answer_in_the_form_asked_for_is_right(question: str, reference: str, answer: str) -> None:
    assert value(question, reference, answer) == 1


def test_a_setting_accepts_any_form() -> None:
    question, reference = "Expand $(y+1)(y+4)$.", "y^2+5y+4"
    assert value(question, reference, "(y+4)(y+1)") == 0
    assert value(question, reference, "(y+4)(y+1)", Rules(form="any")) == 1
    assert value("83+45=", "128", "83+45", Rules(form="any")) == 0, "a sum left to do is another matter"
