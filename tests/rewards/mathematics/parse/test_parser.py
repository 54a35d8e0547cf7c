"""Text to tree, one construct at a time; and the texts with two readings, which are refused."""

from fractions import Fraction

import pytest

from rewards.mathematics.expressions.tree import (
    Call,
    Negative,
    Node,
    Number,
    Percent,
    Power,
    Product,
    Quotient,
    Sum,
    Symbol,
    Unparsable,
)
from rewards.mathematics.parse.expression import parse_expression

X, Y, PI = Symbol("x"), Symbol("y"), Symbol("π")


def number(value: int | str) -> Number:
    return Number(Fraction(value))


TREES: dict[str, Node] = {
    "42": number(42),
    "1.25": Number(Fraction(5, 4), digits=3, places=2),
    "-x": Negative(X),
    "x+2": Sum((X, number(2))),
    "x-2": Sum((X, Negative(number(2)))),
    "2x": Product((number(2), X)),
    "xy": Product((X, Y)),
    "x/2": Quotient(X, number(2)),
    "x^2": Power(X, number(2)),
    "-x^2": Negative(Power(X, number(2))),
    "2^10": Power(number(2), number(10)),
    "2^3^2": Power(number(2), Power(number(3), number(2))),
    "x^{-1}": Power(X, Negative(number(1))),
    "\\frac {1}{2}": Quotient(number(1), number(2)),
    "\\frac 43": Quotient(number(4), number(3)),
    "\\sqrt {x}": Call("root", (X, number(2))),
    "\\sqrt [3]{x}": Call("root", (X, number(3))),
    "\\sin 2x": Call("sin", (Product((number(2), X)),)),
    "\\sin ^{-1}(x)": Call("arcsin", (X,)),
    "\\log _2 8": Quotient(Call("ln", (number(8),)), Call("ln", (number(2),))),
    "f(x)": Call("f", (X,)),
    "5!": Call("factorial", (number(5),)),
    "|x|": Call("abs", (X,)),
    "50%": Percent(number(50)),
    "2π": Product((number(2), PI)),
    "x_1": Symbol("x_1"),
}


@pytest.mark.parametrize("text", TREES)
def test_a_text_has_one_tree(text: str) -> None:
    assert parse_expression(text) == TREES[text]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1/2x", "two readings"), ("a/b/c", "two readings"), ("2 3", "side by side"), ("x2", "cannot read"), ("\\sqrt 12", "two readings"),
        ("2\\frac{5}{3}", "not proper"), ("5!!", "double factorial"), ("(x", "missing"), ("x+", "missing"), ("apples", "is a word"),
        ("\\sum x", "not in the grammar"), ("(" * 60 + "x" + ")" * 60, "nested too deep"), ("x" + "+x" * 600, "longer than an answer"),
    ],
)  # fmt: skip
def test_what_is_unclear_or_unbounded_is_refused(text: str, reason: str) -> None:
    with pytest.raises(Unparsable, match=reason):
        parse_expression(text)
