"""The expressions in an answer of any shape, and what their parts are."""

from collections.abc import Iterator

from rewards.mathematics.expressions.evaluate import rational
from rewards.mathematics.expressions.shapes import Answer, Items, Matrix, Named, Ratio, Relation, Scalar, Union
from rewards.mathematics.expressions.tree import Call, Node, Power, Product, Quotient, Sum, walk

COMPOUND = (Sum, Product, Quotient, Power, Call)


def nodes(answer: Answer) -> list[Node]:
    """Every expression, in order."""
    match answer:
        case Scalar(node):
            return [node]
        case Named(_, value):
            return nodes(value)
        case Items(_, _, items):
            return [node for item in items for node in nodes(item)]
        case Union(pieces):
            return [node for piece in pieces for node in nodes(piece)]
        case Relation(sides):
            return list(sides)
        case Matrix(rows):
            return [node for row in rows for node in row]
        case Ratio(terms, clock):
            return [Quotient(*terms)] if len(terms) == 2 and not clock else list(terms)  # 10:2 for 5
        case _:
            return []


def is_root(node: Node) -> bool:
    """Return True for a root, also one that is written as a power."""
    return (isinstance(node, Call) and node.name == "root") or (
        isinstance(node, Power) and (value := rational(node.exponent)) is not None and value.denominator > 1
    )


def denominators(node: Node) -> Iterator[Node]:
    """Yield each divisor, also one that is written as a negative power."""
    for each in walk(node):
        if isinstance(each, Quotient):
            yield each.bottom
        elif isinstance(each, Power) and (rational(each.exponent) or 0) < 0:
            yield each.base


def is_count(node: Node) -> bool:
    """Return True for a whole number above 1."""
    value = rational(node)
    return value is not None and value.denominator == 1 and value > 1
