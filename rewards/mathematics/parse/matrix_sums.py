"""Reads sums of matrices with factors, as linear algebra answers: ``c_1 e^t (1, 2)^T + \\frac{1}{2} A``.

Each matrix is a letter to the parser of expressions; an expression that is linear in them is one matrix, whose cells
are that expression with each matrix's own cell for its letter. Nothing is multiplied out, so that what is left to do is
still seen.
"""

import re
from fractions import Fraction

from rewards.mathematics.expressions.shapes import Matrix
from rewards.mathematics.expressions.tree import (
    Negative,
    Node,
    Number,
    Product,
    Quotient,
    Sum,
    Symbol,
    Unparsable,
    rebuild,
    walk,
)
from rewards.mathematics.parse.expression import parse_expression
from rewards.mathematics.parse.scalar import parse_value

MAX_MATRICES = 8
MAX_CELLS = 200
_LETTER = "Xi"
"""The letter that stands for matrices, which an answer with matrices may not have besides."""
_ROWS = r"(?:(?!\\begin).){1,800}?"
_MATRIX = re.compile(
    rf"[\[(] ?\\begin\{{array\}}(?:\{{[lcr| ]*\}})?(?P<array>{_ROWS})\\end\{{array\}} ?[\])]"
    rf"|\\begin\{{(?P<kind>[pbB](?:small)?matrix)\}}(?P<rows>{_ROWS})\\end\{{(?P=kind)\}}"
)


def read_matrix_sum(text: str) -> Matrix | None:
    """The matrix that a text of several matrices, or of one with a factor, stands for; None for other texts."""
    written = list(_MATRIX.finditer(text))
    if (
        not written
        or (len(written) == 1 and written[0][0] == text)
        or f"\\{_LETTER}" in text
        or len(written) > MAX_MATRICES
    ):
        return None
    letters = iter(range(1, len(written) + 1))
    node = parse_expression(_MATRIX.sub(lambda _: f"(\\{_LETTER} _{next(letters)})", text))
    matrices = {f"{_LETTER}_{at}": read_cells(match["array"] or match["rows"]) for at, match in enumerate(written, 1)}
    shapes = {(len(m), len(m[0])) for m in matrices.values()}
    if len(shapes) != 1 or _degree(node) != 1:
        raise Unparsable("matrices that are multiplied, or of several shapes")
    rows, columns = shapes.pop()
    return Matrix(tuple(tuple(_cell(node, matrices, i, j) for j in range(columns)) for i in range(rows)))


def read_cells(rows: str) -> tuple[tuple[Node, ...], ...]:
    """The cells between ``&`` and ``\\\\``."""
    lines = [r for r in rows.replace("\\hline ", "").split("\\\\") if r.strip()]
    table = tuple(tuple(parse_value(c.strip()) for c in line.split("&")) for line in lines)
    if not table or len({len(r) for r in table}) != 1 or len(table) * len(table[0]) > MAX_CELLS:
        raise Unparsable("rows of different lengths")
    return table


def _degree(node: Node) -> int:
    """Return the number of matrices among each term's factors; a large number where terms differ in it."""
    if not any(isinstance(n, Symbol) and n.name.startswith(f"{_LETTER}_") for n in walk(node)):
        return 0
    match node:
        case Symbol():
            return 1
        case Negative(inner):
            return _degree(inner)
        case Sum(terms):
            degrees = {_degree(t) for t in terms}
            return degrees.pop() if len(degrees) == 1 else 100
        case Product(factors):
            return sum(map(_degree, factors))
        case Quotient(top, bottom):
            return _degree(top) + 100 * _degree(bottom)
        case _:
            return 100


def _cell(node: Node, matrices: dict[str, tuple[tuple[Node, ...], ...]], row: int, column: int) -> Node:
    if isinstance(node, Symbol):
        return matrices[node.name][row][column] if node.name in matrices else node
    return _without_zeros(rebuild(node, lambda child: _cell(child, matrices, row, column)))


def _without_zeros(node: Node) -> Node:
    """The node without what a cell of 0 or 1 leaves in it, which is nothing to work out."""
    match node:
        case Product(factors):
            kept = tuple(f for f in factors if f != Number(Fraction(1)))
            zero = any(f == Number(Fraction(0)) for f in factors)
            return Number(Fraction(0)) if zero else Product(kept) if len(kept) > 1 else next(iter(kept), factors[0])
        case Sum(terms):
            kept = tuple(t for t in terms if t != Number(Fraction(0)))
            return Sum(kept) if len(kept) > 1 else next(iter(kept), Number(Fraction(0)))
        case Negative(Number(Fraction(numerator=0))):
            return Number(Fraction(0))
        case _:
            return node
