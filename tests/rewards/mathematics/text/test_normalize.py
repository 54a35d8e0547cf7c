"""One spelling for each sign, and nothing decided about what is equal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.mathematics.text.normalize import normalize

SPELT = {
    "$42$": "42", "\\(42\\)": "42", "\\boxed{42}": "42", "**42**": "42", " 42. ": "42", "'42'": "42", "\\$42": "¤42", "= 42": "42",
    "3 \\times 4": "3 * 4", "3 \\cdot 4": "3 * 4", "3\u22124": "3-4", "x \\le 5": "x ≤ 5", "x <= 5": "x ≤ 5", "x \\ne 5": "x ≠ 5", "2**3": "2^3",
    "\\dfrac{1}{2}": "\\frac{1}{2}", "5\u00b2": "5^{2}", "\u221a2": "\\sqrt {2}", "x\u2081": "x_{1}", "\uff12\uff15": "25", "\u00bd": "1/2",
    "12{,}345": "12345", "12,\\!345": "12345", "12,345": "12,345", "90^\\circ": "90°", "50\\%": "50%", "50 percent": "50%", "50 percentage points": "50%",
    "\\mathrm{cm}": "cm", "5\\mathrm{cm}": "5\\text{cm}", "\\mathbb{R}": "\\mathbb {R}", "\\left(1,2\\right]": "(1,2]", "\\text{Evelyn}": "Evelyn",
    "\\textcolor{red}{18}": "{18}", "\u2460": "?①", "1\u200b8": "18", "(1,2) U (3,4)": "(1,2)∪(3,4)", "...": "…",
}  # fmt: skip


@pytest.mark.parametrize("text", SPELT)
def test_a_sign_has_one_spelling(text: str) -> None:
    assert normalize(text) == SPELT[text]


@given(st.text(max_size=60))
def test_any_text_is_accepted(text: str) -> None:
    assert isinstance(normalize(text), str)
