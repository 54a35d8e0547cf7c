"""Whether an equal answer is one at all, or only the question again: ``59 + 37`` is worth 96 and answers nothing.

A policy that is paid for restating the sum it was asked for learns that first: it is shorter than adding. So an answer
must not contain a calculation that the reference does not contain, and must not repeat an expression of the question.
"""

import re

from rewards.answer import Answer, Items, Matrix, Named, Ratio, Relation, Scalar, Union, parse_answer
from rewards.exact import rational
from rewards.expression import Call, Node, Number, Power, Product, Quotient, Sum, walk
from rewards.normalize import normalize

_NUMERAL = re.compile(r"[-+$\s]*[\d.,]+[%\s.]*")


def is_worked_out(question: str, reference: str, answer: str) -> bool:
    """Assumes that `answer` equals `reference`; raises `Unparsable` if one of them cannot be read."""
    if _NUMERAL.fullmatch(answer) or normalize(answer) == normalize(reference):
        return True
    expected, given = parse_answer(normalize(reference)), parse_answer(normalize(answer))
    if expected == given:
        return True
    return _calculations(given) <= _calculations(expected) and not (_is_compound(given) and _echoes(question, answer))


def _calculations(answer: Answer) -> set[str]:
    """The kinds of arithmetic on plain numbers that are left to do in it."""
    found: set[str] = set()
    for node in _nodes(answer):
        for part in walk(node):
            if isinstance(part, Sum) and _rational_count(part.terms) > 1:
                found.add("sum")
            if isinstance(part, Product) and _rational_count(part.factors) > 1 and not _is_scientific(part):
                found.add("product")
            if isinstance(part, Quotient) and (value := rational(part)) is not None and value.denominator == 1:
                found.add("division")  # 6/4 is a number written as a fraction, 6/2 a division not done
    return found


def _rational_count(parts: tuple[Node, ...]) -> int:
    return sum(rational(part) is not None for part in parts)


def _is_scientific(product: Product) -> bool:
    """``1.5 × 10^3`` and ``23 hundred``: a numeral in two parts."""
    return len(product.factors) == 2 and _is_power_of_ten(product.factors[1])


def _is_power_of_ten(node: Node) -> bool:
    if isinstance(node, Power):
        return isinstance(node.base, Number) and node.base.value == 10
    return isinstance(node, Number) and re.fullmatch(r"10*", str(node.value)) is not None


def _is_compound(answer: Answer) -> bool:
    """More than a numeral or a name: only such an answer can be an expression out of the question."""
    compound = (Sum, Product, Quotient, Power, Call)
    return any(isinstance(part, compound) for node in _nodes(answer) for part in walk(node))


def _echoes(question: str, answer: str) -> bool:
    return _squeezed(answer) in _squeezed(question)


def _squeezed(text: str) -> str:
    return re.sub(r"[\s{}$\\]|left|right|cdot|times", "", normalize(text) or text)


def _nodes(answer: Answer) -> list[Node]:
    """Every expression in an answer of any shape."""
    match answer:
        case Scalar(node):
            return [node]
        case Named(_, value):
            return _nodes(value)
        case Items(_, _, items):
            return [node for item in items for node in _nodes(item)]
        case Union(pieces):
            return [node for piece in pieces for node in _nodes(piece)]
        case Relation(sides):
            return list(sides)
        case Matrix(rows):
            return [node for row in rows for node in row]
        case Ratio(terms):
            return list(terms)
        case _:
            return []
