"""An equation answers with its right side if its left side is what was asked for."""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Problem

SUM = "The answer can be written as $m/n$ in lowest terms. Find $m+n$."
LINEAR = "If $3x+2=128$, find $x$."


@pytest.mark.parametrize(
    ("question", "reference", "right", "wrong"),
    [
        (LINEAR, "42", ["x=42", "42", "42=x", "n=42"], ["x+y=42", "xy=42", "-x=42", "|x|=42", "2x=42", "x^2=42"]),
        (SUM, "42", ["m+n=42", "n+m=42", "40+2=42", "m+n=40+2=42"], ["m=42", "n=42", "mn=42", "m-n=42", "\\frac{m}{n}=42", "m=40, n=2"]),
        ("Let $z=3+4i$. Find $|z|$.", "5", ["|z|=5"], ["z=5", "|z|^2=5", "-|z|=5"]), ("What is the value of $6x+5$?", "23", ["6x+5=23"], ["x=23"]),
        ("Find the minimum value of $a^4 + b^8$.", "50", ["a^4+b^8=50", "b^8+a^4=50"], ["a^4=50"]), ("Find $x^2$.", "9", ["x^2=9"], ["x=9", "2x=9"]),
        ("", "42", ["x=42", "x+y=42", "xy=42", "a-b=42", "\\frac xy=42", "f(x)=42", "f(-2)=42", "f(-2)+f(0)=42", "g(f(5)-1)=42", "|z|=42"],
         ["-x=42", "|x|=42", "x!=42", "\\ln x=42", "\\log x=42", "e^x=42", "f(2)+1=42", "2f(2)=42", "-f(2)=42"]),
        ("", "f(-2)=3", ["f(-2)=3"], ["f(-1)=3"]),
    ],
)  # fmt: skip
def test_the_left_side_is_what_was_asked_for(question: str, reference: str, right: list[str], wrong: list[str]) -> None:
    paid = {a: math_answer(Problem("p", question, reference), f"\\boxed{{{a}}}").value for a in right + wrong}
    assert [a for a in right if not paid[a]] == []
    assert [a for a in wrong if paid[a]] == []
