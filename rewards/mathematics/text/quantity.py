"""Quantities with a name, of which one is asked for: an area is not a perimeter, nor a sum a product."""

import re

from rewards.mathematics.text.normalize import words

_KINDS = (
    words("area perimeter volume radius diameter slope median mode mean range probability"),
    words("sum product difference quotient remainder number"),
)
"""Quantities that exclude each other; one of another kind may be how the quantity that is asked for is found."""
_SAME = {
    "circumference": "perimeter",
    "average": "mean",
    "how many": "number",
    "number of": "number",
}
_NAMED = re.compile(
    rf"\b(?:{'|'.join(w for w in [*_SAME, *sorted(_KINDS[0] | _KINDS[1] - {'number'})])})(?=s?\b|\b)", re.IGNORECASE
)
_LABEL = re.compile(r"^\$?\s*(?:\\(?:text|mathrm)\s*\{)?\s*(?P<label>[A-Za-z][A-Za-z ]{2,40}?)\s*\}?\s*[=:]")


def is_another_quantity(statement: str, question: str) -> bool:
    """Return True if words name a quantity, and the question only others of its kind.

    Example: ``is_another_quantity("The area is", "Find the perimeter.")`` is True.
    """
    named, asked = _quantities(statement), _quantities(question)
    return any(named & kind and (asked & kind) - {"number"} and not named & asked for kind in _KINDS)


def label(answer: str) -> str:
    """The words before an answer's value: ``Area`` in ``\\text{Area} = 12``."""
    match = _LABEL.match(answer)
    return "" if match is None else match["label"]


def _quantities(text: str) -> set[str]:
    return {_SAME.get(name, name) for name in map(str.lower, _NAMED.findall(text))}
