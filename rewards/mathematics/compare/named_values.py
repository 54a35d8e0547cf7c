"""Values with names: ``x = 5`` answers 5, ``f(n) = 2n`` is ``f(m) = 2m``, and an area is not a perimeter."""

import re
from collections.abc import Callable

from rewards.mathematics.compare.relation import as_equation, same_relation
from rewards.mathematics.expressions.evaluate import variables
from rewards.mathematics.expressions.shapes import Answer, Items, Named, Relation, Scalar
from rewards.mathematics.expressions.tree import Node, Symbol, rebuild
from rewards.rules import Rules

Same = Callable[[Answer, Answer], bool]
"""Compares parts of answers under the rules of the whole."""

_APPLIED = re.compile(r"(\\?[A-Za-z]+(?:_\{?\w\}?)?'*)\(([a-z])\)|([A-Za-z])_\{?([i-n])\}?")
"""A function of a letter, or a sequence: ``f(x)``, ``a_n``."""
_CALLED = re.compile(r"(?<=^[A-Za-z])\([a-z]\)$")
_SMALL = frozenset(["a", "an", "the", "of", "is", "in", "its", "total", "final"])


def same_named(reference: Answer, answer: Answer, rules: Rules, same: Same) -> bool:
    """``x = 5`` answers 5 and the reverse, but not ``y = 5``; ``y = 2x`` is also the equation ``2x - y = 0``."""
    relations = [a for a in (reference, answer) if isinstance(a, Relation)]
    if relations and relations[0].signs[0] != "=":  # x ∈ [1, 2] and 1 ≤ x ≤ 2
        return same(value_of(reference), value_of(answer))
    if relations:
        left, right = as_equation(reference), as_equation(answer)
        return left is not None and right is not None and same_relation(left, right, rules)
    if isinstance(reference, Named) and isinstance(answer, Named):
        answer = _renamed(reference, answer)
        if not _names_agree(reference, answer):
            left, right = as_equation(reference), as_equation(answer)
            return left is not None and right is not None and _crossed(left, right)
    return same(value_of(reference), value_of(answer))


def value_of(answer: Answer) -> Answer:
    """The answer without its name."""
    return value_of(answer.value) if isinstance(answer, Named) else answer


def same_assignments(reference: Items, answer: Items, same: Same) -> bool | None:
    """Values against values with a name each, which must come in the same order; None when neither side, or both, have
    names that tell them apart."""
    for bare, named in ((reference, answer), (answer, reference)):
        names = [i.name for i in named.items if isinstance(i, Named)]
        several = len(names) == len(named.items) > 1 and len(set(names)) == len(names)
        if several and not named.left and not any(isinstance(i, Named) for i in bare.items):
            in_order = all(same(a, b) for a, b in zip(reference.items, answer.items, strict=True))
            return in_order and bare.left in ("", "(", "{") and (bare.left != "(" or bare.right == ")")
    return None


def _renamed(reference: Named, answer: Named) -> Named:
    """The answer with the reference's letter for the argument: f(m) = 2m is f(n) = 2n."""
    left, right = _APPLIED.fullmatch(reference.name), _APPLIED.fullmatch(answer.name)
    if (
        left is None
        or right is None
        or (left[1], left[3]) != (right[1], right[3])
        or (left[2], left[4]) == (right[2], right[4])
        or not isinstance(answer.value, Scalar)
    ):
        return answer
    old, new = right[2] or right[4], left[2] or left[4]
    if new in variables(answer.value.node):
        return answer
    node = _replaced(answer.value.node, old, new)
    return Named(reference.name, Scalar(node, answer.value.unit))


def _replaced(node: Node, old: str, new: str) -> Node:
    if isinstance(node, Symbol):
        return Symbol(new) if node.name == old else node
    return rebuild(node, lambda child: _replaced(child, old, new))


def _names_agree(reference: Named, answer: Named) -> bool:
    """Two letters must be the same one, except y for f(x); two phrases must share their words. A letter may stand for
    a phrase."""
    names = reference.name.replace(" ", ""), answer.name.replace(" ", "")
    if names[0] == names[1]:
        return True
    letters = _is_variable(reference), _is_variable(answer)
    if all(letters):
        if names[0] == _CALLED.sub("", names[1]) or names[1] == _CALLED.sub("", names[0]):
            return True  # y and y(t)
        return any(n == "y" for n in names) and any(re.fullmatch(r"[fghF](?:\^\{?-1\}?)?\([a-z]\)", n) for n in names)
    if any(letters):
        return True
    left, right = (_words(n.name) for n in (reference, answer))
    return left <= right or right <= left


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z]+", name.lower())) - _SMALL


def _is_variable(named: Named) -> bool:
    name = named.name
    return len(name.rstrip("'")) == 1 or name.isupper() or "(" in name or "_" in name or name.startswith("\\")


def _crossed(left: Relation, right: Relation) -> bool:
    """``y = 2x`` and ``x = y/2``: the same line, if each mentions the other's variable."""
    shared = variables(left.sides[0]) | variables(left.sides[1])
    return (
        len(shared) > 1
        and shared == variables(right.sides[0]) | variables(right.sides[1])
        and same_relation(left, right)
    )
