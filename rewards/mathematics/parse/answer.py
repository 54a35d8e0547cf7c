"""Reads an answer: a number with its unit, a list, a set, a pair or interval, a relation, a matrix, words ...

`parse_answer` decides the shape (`expressions.shapes`) by the outermost signs. Words that the grammar does not
know make an answer unreadable unless they are its unit, so "not 5" and "5 or more" never pass for 5.
"""

from functools import lru_cache

from rewards.mathematics.expressions.shapes import Answer, Scalar
from rewards.mathematics.expressions.tree import Unparsable
from rewards.mathematics.parse.bracketed import read_bracketed
from rewards.mathematics.parse.equation import read_relation
from rewards.mathematics.parse.expression import parse_expression
from rewards.mathematics.parse.lists import read_list
from rewards.mathematics.parse.notations import read_notation
from rewards.mathematics.parse.scalar import parse_scalar
from rewards.mathematics.parse.words import read_words
from rewards.mathematics.text.normalize import MAX_ANSWER_CHARS
from rewards.mathematics.text.qualifier import without_qualifiers

MAX_NESTING = 5
_OPEN_ENDED = "…∩∉"


@lru_cache(8192)
def parse_answer(text: str, nesting: int = 0) -> Answer:
    """The shape and contents of a normalised answer. Raises `Unparsable`."""
    text = without_qualifiers(text)
    if not text:
        raise Unparsable("empty")
    if nesting > MAX_NESTING:
        raise Unparsable("nested too deep")
    if any(c in text for c in _OPEN_ENDED) or ("∅" in text and text != "∅"):
        raise Unparsable("an ellipsis or a set operation leaves open what is meant")
    if len(text) > MAX_ANSWER_CHARS:
        return Scalar(parse_expression(text))

    def read(part: str) -> Answer:
        return parse_answer(part, nesting + 1)

    if text.startswith("\\text{") and text.endswith("}") and text.count("{") == 1:
        return read(text[6:-1].strip())
    return (
        read_notation(text, read)
        or read_words(text, nesting)
        or read_list(text, read)
        or read_relation(text, read)
        or read_bracketed(text, read)
        or parse_scalar(text)
    )
