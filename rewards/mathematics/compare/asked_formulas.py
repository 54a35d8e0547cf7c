"""The formulas that a question asks for by name: ``m+n`` in "Find $m+n$".

An equation states its right side as the answer if its left side is what was asked, or is at least no other letter or
expression of the question: ``m = 42`` is no answer to "Find $m+n$".
"""

import re
from functools import lru_cache

from rewards.mathematics.expressions.evaluate import variables
from rewards.mathematics.expressions.shapes import Answer, Named, Relation, Scalar
from rewards.mathematics.expressions.tree import Node, Symbol, Unparsable
from rewards.mathematics.parse.scalar import parse_value
from rewards.mathematics.text.formulas import formulas
from rewards.mathematics.text.normalize import normalize
from rewards.mathematics.values.equality import same_value

_ASKED = re.compile(
    r"\b(?:find|determine|compute|calculate|evaluate|solve for|what (?:is|was))\s+"
    r"(?:(?:the|exact|numerical|possible|smallest|largest|least|greatest|minimum|maximum|total|all|only|integers?|real|"
    r"positive|number|value|values|of|sum|product|difference|prime)\s+){0,6}"
    r"(?:\$([^$]{1,80})\$|\\\((.{1,80}?)\\\))",
    re.IGNORECASE,
)
_LETTER = re.compile(r"(?<![A-Za-z\\])[a-z](?![A-Za-z])|(?<=[A-Za-z])[a-z](?![A-Za-z])")


def asks_for(question: str, left: Node) -> bool:
    """Return True if the question asks for an expression by name."""
    return any(_agree(left, each) for each in _asked(question))


def names_another(question: str, expected: Answer, given: Answer) -> bool:
    """Return True if an answer's left side is of the question's letters, and not what the question asks for."""
    asked = _asked(question)
    if not asked or not isinstance(expected, Scalar) or variables(expected.node):
        return False
    left = _left(given)
    if left is None:
        return False
    names = variables(left)
    if not names or not all(re.fullmatch(r"[a-z]", name) for name in names):
        return False
    if isinstance(left, Symbol) and not names <= _letters(question):
        return False  # a letter that the answer brings along
    return not any(_agree(left, each) for each in asked)


def _left(answer: Answer) -> Node | None:
    if isinstance(answer, Relation):
        return answer.sides[0] if answer.signs == ("=",) else None
    if not isinstance(answer, Named) or not isinstance(answer.value, Scalar):
        return None
    return _value(answer.name)


@lru_cache(512)
def _asked(question: str) -> tuple[Node, ...]:
    values = (_value(normalize(match[1] or match[2])) for match in _ASKED.finditer(question))
    return tuple(value for value in values if value is not None)


@lru_cache(512)
def _letters(question: str) -> frozenset[str]:
    return frozenset(letter for formula in formulas(question) for letter in _LETTER.findall(formula))


def _value(text: str) -> Node | None:
    try:
        return parse_value(text)
    except (Unparsable, RecursionError):
        return None


def _agree(left: Node, right: Node) -> bool:
    try:
        return variables(left) == variables(right) and same_value(left, right)
    except (Unparsable, RecursionError):
        return False
