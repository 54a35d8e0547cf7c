"""The expressions in an answer of any shape."""

from rewards.expression import Call, Node, Power, Product, Quotient, Sum
from rewards.shapes import Answer, Items, Matrix, Named, Ratio, Relation, Scalar, Union

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
