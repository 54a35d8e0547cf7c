"""Values without sympy: exact where arithmetic alone gives a fraction, approximate elsewhere, bounded everywhere."""

import math
from fractions import Fraction

import pytest

from rewards.mathematics.expressions.evaluate import approximate, rational, variables
from rewards.mathematics.expressions.tree import Unparsable
from rewards.mathematics.parse.expression import parse_expression


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1/2+1/3", Fraction(5, 6)), ("2^{-3}", Fraction(1, 8)), ("\\sqrt {16}", 4), ("8^{2/3}", 4), ("\\sqrt [3]{-8}", -2),
        ("5!", 120), ("\\binom {5}{2}", 10), ("|-3|", 3), ("15%", Fraction(3, 20)), ("\\lfloor 7/2 \\rfloor ", 3), ("0.125", Fraction(1, 8)),
        ("\\sqrt {2}", None), ("π", None), ("x", None), ("\\sin 0", None), ("(-8)^{1/3}", None),
    ],
)  # fmt: skip
def test_arithmetic_is_exact(text: str, value: Fraction | int | None) -> None:
    assert rational(parse_expression(text)) == value


@pytest.mark.parametrize(
    "text", ["1/0", "0^0", "0^{-1}", "9^{9^9}", "5000!", "(1/2)!", "x^{10^9}", "10^{10^{10}}", "\\sqrt [0]{2}"]
)
def test_what_is_undefined_or_huge_is_refused(text: str) -> None:
    with pytest.raises(Unparsable):
        rational(parse_expression(text))


def test_an_approximation_comes_with_the_largest_number_on_the_way() -> None:
    value, scale = approximate(parse_expression("10^9+x-10^9"), {"x": 0.5})
    assert value == pytest.approx(0.5)
    assert scale >= 1e9, "by which the rounding error of the result is judged"
    assert approximate(parse_expression("e^{iπ}"), {})[0] == pytest.approx(-1)
    assert approximate(parse_expression("\\ln 2"), {})[0] == pytest.approx(math.log(2))


def test_variables_are_the_letters_that_are_no_constants() -> None:
    assert variables(parse_expression("2πr+e^{ix_1}")) == {"r", "x_1"}
