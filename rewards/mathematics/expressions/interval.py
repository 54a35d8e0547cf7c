"""Conditions on one variable as intervals of it, so that ``-2 ≤ x < 7`` and ``[-2, 7)`` compare."""

from itertools import pairwise
from math import inf

from rewards.mathematics.expressions.evaluate import approximate, variables
from rewards.mathematics.expressions.shapes import Answer, Items, Named, Relation, Scalar, Union
from rewards.mathematics.expressions.tree import Negative, Node, Symbol, Unparsable

_INFINITY = Symbol("∞")


def as_interval(answer: Answer) -> Answer | None:
    """A condition as the interval it describes, other answers as they are; None for conditions that are none."""
    if not isinstance(answer, Relation):
        return answer
    if answer.signs == ("≠",):
        return _all_but(answer)
    span = spanned(answer)
    return None if span is None else span[1]


def spanned(relation: Relation) -> tuple[str, Items] | None:
    """``-2 ≤ x < 7`` as ``("x", [-2, 7))``; None when the relation is not one variable between constants."""
    sides, marks = _ascending(relation)
    names = [s.name for s in sides if isinstance(s, Symbol) and s.name in variables(s) - {"∞"}]
    if not set(marks) <= {"<", "≤"} or len(names) != 1 or len(sides) not in (2, 3):
        return None
    at = sides.index(Symbol(names[0]))
    if (len(sides) == 3 and at != 1) or any(variables(s) - {"∞"} for i, s in enumerate(sides) if i != at):
        return None
    low = (sides[at - 1], "(" if marks[at - 1] == "<" else "[") if at > 0 else (Negative(_INFINITY), "(")
    high = (sides[at + 1], ")" if marks[at] == "<" else "]") if at + 1 < len(sides) else (_INFINITY, ")")
    return names[0], Items(low[1], high[1], (Scalar(low[0]), Scalar(high[0])))


def _ascending(relation: Relation) -> tuple[list[Node], list[str]]:
    sides, marks = list(relation.sides), list(relation.signs)
    if set(marks) <= {">", "≥"}:
        return sides[::-1], ["<" if m == ">" else "≤" for m in reversed(marks)]
    return sides, marks


def _all_but(relation: Relation) -> Union | None:
    """``x ≠ 3`` as everything left and right of 3."""
    if len(relation.sides) != 2 or not isinstance(relation.sides[0], Symbol) or variables(relation.sides[1]):
        return None
    return without((Scalar(relation.sides[1]),))


def without(points: tuple[Scalar, ...]) -> Union:
    """The real line without some points, which come in ascending order."""
    ends = [Scalar(Negative(_INFINITY)), *points, Scalar(_INFINITY)]
    return Union(tuple(Items("(", ")", pair) for pair in pairwise(ends)))


def between(interval: Items, ends: list[Scalar], points: tuple[Scalar, ...]) -> Union:
    """An interval without points that lie within it. Raises `Unparsable` for points that do not."""
    places = [_place(p) for p in (ends[0], *sorted(points, key=_place), ends[-1])]
    if len(ends) != 2 or any(a >= b for a, b in pairwise(places)):
        raise Unparsable("points that are not within the interval")
    marks = [interval.left, *[")", "("] * len(points), interval.right]
    pairs = pairwise([ends[0], *sorted(points, key=_place), ends[1]])
    return Union(tuple(Items(marks[2 * i], marks[2 * i + 1], pair) for i, pair in enumerate(pairs)))


def _place(point: Scalar) -> float:
    if variables(point.node) - {"∞"}:
        raise Unparsable("a point that is no number")
    if point.node in (_INFINITY, Negative(_INFINITY)):
        return inf if point.node == _INFINITY else -inf
    return approximate(point.node, {})[0].real


def intervals(union: Union) -> tuple[Answer, ...] | None:
    """The pieces, with conditions on one variable read as intervals of it; None for conditions on several."""
    relations = [p for p in union.pieces if isinstance(p, Relation)]
    spans = [s for s in map(spanned, relations) if s is not None]
    points = [p for p in union.pieces if isinstance(p, Named) and isinstance(p.value, Scalar)]
    spans += [(p.name, Items("{", "}", (p.value,))) for p in points]  # x < 0 or x = 1
    if not relations:
        return union.pieces
    if len(spans) < len(union.pieces) or len({s[0] for s in spans}) > 1:
        return None
    return tuple(s[1] for s in spans)
