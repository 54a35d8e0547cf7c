"""Vectors by their components: a column, a point and ``3i - 4j`` are three ways to write one."""

from fractions import Fraction

from rewards.mathematics.expressions.shapes import Answer, Items, Matrix, Scalar
from rewards.mathematics.expressions.tree import Negative, Node, Number, Product, Quotient, Symbol, terms, walk

_UNIT_VECTORS = tuple(map(Symbol, "ijk"))
_ONE, _ZERO = Number(Fraction(1)), Number(Fraction(0))


def as_point(answer: Answer, like: Answer) -> Items | None:
    """A vector as the point that it leads to, of as many components as ``like``; None for what is no vector.

    Example: the column (1, 2), and ``i + 2j`` beside a point of two, are both ``(1, 2)``.
    """
    match answer:
        case Items("(", ")", _):
            return answer
        case Matrix(rows) if len(rows) == 1 or all(len(r) == 1 for r in rows):
            return Items("(", ")", tuple(Scalar(cell) for row in rows for cell in row))
        case Scalar(node, unit) if not unit and Symbol("j") in walk(node):
            return _of_sum(node, _count(like))
        case _:
            return None


def _count(answer: Answer) -> int:
    match answer:
        case Items(_, _, items):
            return len(items)
        case Matrix(rows):
            return sum(map(len, rows))
        case _:
            return 0


def _of_sum(node: Node, count: int) -> Items | None:
    """The components of a sum whose every term has one unit vector as a factor."""
    factors = dict[Node, Node]()
    for term in terms(node):
        vectors = [v for v in _UNIT_VECTORS if v in walk(term)]
        if len(vectors) != 1 or vectors[0] in factors or not _is_linear(term, vectors[0]):
            return None
        factors[vectors[0]] = _without(term, vectors[0])
    if not 2 <= count <= 3 or not factors.keys() <= {*_UNIT_VECTORS[:count]}:
        return None
    return Items("(", ")", tuple(Scalar(factors.get(v, _ZERO)) for v in _UNIT_VECTORS[:count]))


def _is_linear(term: Node, vector: Symbol) -> bool:
    """Return True if the vector is a factor of the term, and not within a root or below a line."""
    match term:
        case Symbol():
            return term == vector
        case Negative(inner):
            return _is_linear(inner, vector)
        case Product(factors):
            return sum(vector in walk(f) for f in factors) == 1 and any(_is_linear(f, vector) for f in factors)
        case Quotient(top, bottom):
            return vector not in walk(bottom) and _is_linear(top, vector)
        case _:
            return False


def _without(term: Node, vector: Symbol) -> Node:
    """Return the factor of the vector."""
    match term:
        case Negative(inner):
            return Negative(_without(inner, vector))
        case Product(factors):
            kept = tuple(f for f in (_without(f, vector) if vector in walk(f) else f for f in factors) if f != _ONE)
            return Product(kept) if len(kept) > 1 else next(iter(kept), _ONE)
        case Quotient(top, bottom):
            return Quotient(_without(top, vector), bottom)
        case _:
            return _ONE
