"""Compares lists, sets, points and intervals by their members, in order where the order says something."""

from collections.abc import Sequence

from rewards.mathematics.compare.named_values import Same, same_assignments
from rewards.mathematics.expressions.interval import intervals
from rewards.mathematics.expressions.shapes import Answer, Items, Named, Scalar, Union
from rewards.mathematics.text.unit import MEASURES


def same_items(reference: Items, answer: Items, same: Same) -> bool:
    """Brackets that order their items must agree; other lists pair up in any order."""
    if len(reference.items) != len(answer.items):
        return False
    if (assigned := same_assignments(reference, answer, same)) is not None:
        return assigned
    ordered = [i for i in (reference, answer) if i.left in ("(", "[", "⟨")]
    if ordered:
        return _same_in_order(reference, answer, ordered, same)
    if not any(isinstance(i, Named) for i in reference.items):
        names = {i.name for i in answer.items if isinstance(i, Named)}
        if len(names) > 1:
            return False
    if _kinds(answer) and not _kinds(reference):
        return all(same(a, b) for a, b in zip(reference.items, answer.items, strict=True))
    return same_in_any_order(reference.items, answer.items, same)


def _same_in_order(reference: Items, answer: Items, ordered: Sequence[Items], same: Same) -> bool:
    brackets_agree = (reference.left, reference.right) == (answer.left, answer.right)
    # 1, 2, 3 is a way to write the point (1, 2, 3); but 2, 4 is not the interval (2, 4).
    bare_point = len(ordered) == 1 and ordered[0].left == "(" and ordered[0].right == ")" and len(answer.items) > 2
    is_bare = bare_point and not (reference.left and answer.left)
    return (brackets_agree or is_bare) and all(same(a, b) for a, b in zip(reference.items, answer.items, strict=True))


def _kinds(items: Items) -> bool:
    """Return True if the items count different things, 7 goats and 4 helicopters: their order says which is which."""
    units = [i.unit - MEASURES for i in items.items if isinstance(i, Scalar)]
    return len(units) == len(items.items) and all(units) and len(set(units)) == len(units)


def same_in_any_order(left: Sequence[Answer], right: Sequence[Answer], same: Same) -> bool:
    """Return True if the items pair up one to one; how often each occurs counts."""
    rest = list(right)
    for item in left:
        at = next((i for i, candidate in enumerate(rest) if same(item, candidate)), None)
        if at is None:
            return False
        del rest[at]
    return not rest


def same_union(reference: Union, answer: Union, same: Same) -> bool:
    """Pieces in any order, conditions as intervals."""
    left, right = intervals(reference), intervals(answer)
    return left is not None and right is not None and same_in_any_order(left, right, same)


def grouped_assignments(answer: Items) -> Items:
    """``p=5, q=2; p=7, q=2`` as the points (5, 2) and (7, 2); other lists as they are."""
    names = [i.name for i in answer.items if isinstance(i, Named)]
    kinds = list(dict.fromkeys(names))
    width = len(kinds)
    if (
        answer.left
        or len(names) < len(answer.items)
        or not 1 < width < len(names)
        or names != kinds * (len(names) // width)
    ):
        return answer
    values = [i.value for i in answer.items if isinstance(i, Named)]
    points = [Items("(", ")", tuple(values[at : at + width])) for at in range(0, len(values), width)]
    return Items("", "", tuple(points))
