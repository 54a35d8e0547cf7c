"""Reference answers as data sets decorate them: a unit in brackets, an option in text, conditions with an interval."""

import re

from rewards.expression import Unparsable
from rewards.unit import split_unit

_UNIT = re.compile(
    r"^(?P<value>[-+$]*[\d.(][\d.,/:() ]*(?:%|[ap]\.?m\.?)?) ?\((?P<unit>[A-Za-z][A-Za-z .,'/²³-]{0,40})\)$"
)
_ONE_LETTER = re.compile(r"\\text\{ ?([a-z]) ?\}$")
_LETTER = re.compile(r"^\(\s*\\(?:text|textbf|mathrm|mathbf)\s*\{\s*([A-J])\s*\}\s*\)$")
_BOTH = re.compile(
    r"^\$?.*(?:[<>≤≥]|\\(?:leq?|geq?)(?:slant)?\b|or|solution|numbers).*:\s*(?P<interval>[\[(\\].*|\$\\oslash\$)$",
    re.DOTALL,
)


def undecorated(text: str) -> str:
    """The reference in the spelling of the grammar; other texts as they are.

    Example: ``undecorated("9 (apples)")`` is ``"9 \\text{ apples}"``.
    """
    if (match := _UNIT.match(text)) is not None:
        return _with_unit(match["value"].strip(), match["unit"])
    if (letter := _LETTER.match(text.strip("$ "))) is not None:
        return f"({letter[1]})"
    if (both := _BOTH.match(text)) is not None:
        return both["interval"].strip("$ ")
    return text


def _with_unit(value: str, unit: str) -> str:
    """The value with its unit in text, or alone if the words are no unit: 24 (cubes)."""
    text = f"{value} \\text{{ {unit}}}"
    try:
        split_unit(text)
    except Unparsable:
        return value
    return text


def with_unit_of(reference: str, answer: str) -> str:
    """The answer with its last letter as a unit if it is the reference's: 350 g for ``350 \\text{ g}``."""
    unit = _ONE_LETTER.search(reference)
    return answer if unit is None else re.sub(rf"(?<=\d) ?{unit[1]}$", f"\\\\text{{ {unit[1]}}}", answer)
