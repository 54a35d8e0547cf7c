"""Whether an answer says the same as the reference. When in doubt it does not: a policy finds every false "equal".

Order, from the cheapest test on: the same spelling; the same shape; exact rationals; a value in double precision,
which only ever turns answers away; a symbolic proof. Tolerance is relative and comes from digits shown: a decimal
stands for an irrational or non-terminating number when it is that number rounded, or cut off, after at least six
significant digits.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from rewards.answer import parse_answer
from rewards.choice import without_choice
from rewards.exact import approximate, check_size, rational, variables
from rewards.expression import Negative, Node, Number, Percent, Product, Quotient, Sum, Symbol, Unparsable, rebuild
from rewards.normalize import MAX_ANSWER_CHARS, MAX_DIGITS, normalize
from rewards.shapes import Answer, Based, Items, Matrix, Named, Ratio, Relation, Scalar, Union, Words
from rewards.unit import MEASURES

MIN_DIGITS = 6
"""Significant digits a rounded decimal has to show; trailing zeros do not count."""
_PLAIN_INTEGER = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+|[+-]?\d{1,18}")
_PROBES = (
    (0.7390851, 1.2020569, 0.5671432, 1.3247179),
    (-1.2824271, 0.9159655, -0.6434105, -1.6066951),
    (0.5772156 + 0.3036630j, -0.2614972 + 0.8346268j, 1.0303201 - 0.4142135j, 0.3532363 + 1.1319882j),
)
_ARTICLES = re.compile(r"^(?:the|a|an) ")


def equivalent(reference: str, answer: str, *, percent: bool = False) -> bool:
    """Whether two answers, as written by a data set and by a model, mean the same.

    ``percent`` says that the question asks for a percentage, so that ``60`` and ``60%`` both mean sixty percent;
    otherwise ``60%`` is 0.6. Raises `Unparsable` when one of them cannot be read and they are not spelt the same.
    """
    whole, other = _integer(reference), _integer(answer)
    if whole is not None and other is not None:
        return whole == other
    if max(len(reference), len(answer)) > 4 * MAX_ANSWER_CHARS + MAX_DIGITS:
        raise Unparsable("longer than an answer")
    expected, given = without_choice(normalize(reference), normalize(answer))
    if expected == given and expected:
        return True
    return same(parse_answer(expected), parse_answer(given), percent)


def _integer(text: str) -> int | None:
    text = text.strip()
    return int(text.replace(",", "")) if _PLAIN_INTEGER.fullmatch(text) else None


def same(reference: Answer, answer: Answer, percent: bool = False) -> bool:
    """Whether two parsed answers mean the same. Not symmetric: the reference decides what form was asked for."""
    reference, answer = _unwrapped(reference), _unwrapped(answer)
    if isinstance(reference, Named) or isinstance(answer, Named):
        return _same_named(reference, answer, percent)
    match reference, answer:
        case Scalar(), Scalar():
            return _same_scalar(reference, answer, percent)
        case Items(), Items():
            return _same_items(reference, answer, percent)
        case Union(), Union():
            return _same_union(reference, answer, percent)
        case Relation(), Relation():
            return _same_relation(reference, answer)
        case (Relation(), Items() | Union()) | (Items() | Union(), Relation()):
            left, right = _as_interval(reference), _as_interval(answer)
            return left is not None and right is not None and same(left, right, percent)
        case Matrix(left), Matrix(right):
            shapes_agree = [len(r) for r in left] == [len(r) for r in right]
            return shapes_agree and all(
                same_value(a, b) for r, s in zip(left, right, strict=True) for a, b in zip(r, s, strict=True)
            )
        case Based(), Based():
            return reference == answer
        case Ratio(), Ratio():
            return _same_ratio(reference, answer)
        case Ratio((top, bottom), False), Scalar(node):
            return same_value(Quotient(top, bottom), node)
        case Scalar(node), Ratio((top, bottom), False):
            return same_value(node, Quotient(top, bottom))
        case Words(left), Words(right):
            return _ARTICLES.sub("", left) == _ARTICLES.sub("", right)
        case (Words(text), Scalar(Symbol(name))) | (Scalar(Symbol(name)), Words(text)):
            return len(text) == 1 and name.isupper() and text == name.lower()
        case _:
            return False


def _unwrapped(answer: Answer) -> Answer:
    """A list of one, or a set of one, is its item."""
    while isinstance(answer, Items) and len(answer.items) == 1:
        answer = answer.items[0]
    return answer


def _same_named(reference: Answer, answer: Answer, percent: bool) -> bool:
    """``x = 5`` answers 5 and the reverse, but not ``y = 5``; ``y = 2x`` is also the equation ``2x - y = 0``."""
    relations = [a for a in (reference, answer) if isinstance(a, Relation)]
    if relations and relations[0].signs[0] != "=":  # x ∈ [1, 2] and 1 ≤ x ≤ 2
        return same(_value(reference), _value(answer), percent)
    if relations:
        left, right = _as_equation(reference), _as_equation(answer)
        return left is not None and right is not None and _same_relation(left, right)
    if isinstance(reference, Named) and isinstance(answer, Named) and _is_variable(reference) and _is_variable(answer):
        left, right = _as_equation(reference), _as_equation(answer)
        if reference.name.replace(" ", "") != answer.name.replace(" ", ""):
            return left is not None and right is not None and _crossed(left, right)
    return same(_value(reference), _value(answer), percent)


def _value(answer: Answer) -> Answer:
    return _value(answer.value) if isinstance(answer, Named) else answer


def _is_variable(named: Named) -> bool:
    name = named.name
    return len(name.rstrip("'")) == 1 or name.isupper() or "(" in name or "_" in name or name.startswith("\\")


def _crossed(left: Relation, right: Relation) -> bool:
    """``y = 2x`` and ``x = y/2``: the same line, if each mentions the other's variable."""
    shared = variables(left.sides[0]) | variables(left.sides[1])
    return (
        len(shared) > 1
        and shared == variables(right.sides[0]) | variables(right.sides[1])
        and _same_relation(left, right)
    )


def _as_equation(answer: Answer) -> Relation | None:
    if isinstance(answer, Relation):
        return answer
    if isinstance(answer, Named) and isinstance(answer.value, Scalar) and len(answer.name) == 1:
        if not variables(answer.value.node):
            return None  # x = 5 is a solution; 2x = 10 only repeats the question
        return Relation((Symbol(answer.name), answer.value.node), ("=",))
    return None


def _same_scalar(reference: Scalar, answer: Scalar, percent: bool) -> bool:
    if not _units_agree(reference.unit, answer.unit):
        return False
    if percent:
        return same_value(_without_percent(reference.node), _without_percent(answer.node))
    return same_value(reference.node, answer.node)


def _units_agree(left: frozenset[str], right: frozenset[str]) -> bool:
    """A unit may be left out, and eggs may be eggs per day; of measures, every word counts."""
    if not left or not right:
        return True
    return (left <= right or right <= left) and left & MEASURES == right & MEASURES


def _without_percent(node: Node) -> Node:
    if isinstance(node, Negative):
        return Negative(_without_percent(node.inner))
    return node.inner if isinstance(node, Percent) else node


def _same_items(reference: Items, answer: Items, percent: bool) -> bool:
    if len(reference.items) != len(answer.items):
        return False
    ordered = [i for i in (reference, answer) if i.left in ("(", "[")]
    if not ordered:
        if not any(isinstance(i, Named) for i in reference.items):
            names = {i.name for i in answer.items if isinstance(i, Named)}
            if len(names) > 1:
                return False
        return _same_in_any_order(reference.items, answer.items, percent)
    brackets_agree = (reference.left, reference.right) == (answer.left, answer.right)
    # 1, 2, 3 is a way to write the point (1, 2, 3); but 2, 4 is not the interval (2, 4).
    bare_point = len(ordered) == 1 and ordered[0].left == "(" and ordered[0].right == ")" and len(answer.items) > 2
    is_bare = bare_point and not (reference.left and answer.left)
    return (brackets_agree or is_bare) and all(
        same(a, b, percent) for a, b in zip(reference.items, answer.items, strict=True)
    )


def _same_in_any_order(left: Sequence[Answer], right: Sequence[Answer], percent: bool) -> bool:
    """Whether the items pair up one to one; how often each occurs counts."""
    rest = list(right)
    for item in left:
        at = next((i for i, other in enumerate(rest) if same(item, other, percent)), None)
        if at is None:
            return False
        del rest[at]
    return not rest


def _same_union(reference: Union, answer: Union, percent: bool) -> bool:
    left, right = _intervals(reference), _intervals(answer)
    return left is not None and right is not None and _same_in_any_order(left, right, percent)


def _intervals(union: Union) -> tuple[Answer, ...] | None:
    """The pieces, with conditions on one variable read as intervals of it; None for conditions on several."""
    relations = [p for p in union.pieces if isinstance(p, Relation)]
    spans = [s for s in map(_span, relations) if s is not None]
    if not relations:
        return union.pieces
    if len(spans) < len(union.pieces) or len({s[0] for s in spans}) > 1:
        return None
    return tuple(s[1] for s in spans)


def _as_interval(answer: Answer) -> Answer | None:
    if isinstance(answer, Relation):
        span = _span(answer)
        return None if span is None else span[1]
    return answer


def _span(relation: Relation) -> tuple[str, Items] | None:
    """``-2 ≤ x < 7`` as ``("x", [-2, 7))``; None when the relation is not one variable between constants."""
    sides, marks = list(relation.sides), list(relation.signs)
    if set(marks) <= {">", "≥"}:
        sides, marks = sides[::-1], ["<" if m == ">" else "≤" for m in reversed(marks)]
    names = [s.name for s in sides if isinstance(s, Symbol) and s.name in variables(s) - {"∞"}]
    if not set(marks) <= {"<", "≤"} or len(names) != 1 or len(sides) not in (2, 3):
        return None
    at = next(i for i, s in enumerate(sides) if s == Symbol(names[0]))
    if (len(sides) == 3 and at != 1) or any(variables(s) - {"∞"} for i, s in enumerate(sides) if i != at):
        return None
    low = (sides[at - 1], "(" if marks[at - 1] == "<" else "[") if at > 0 else (Negative(Symbol("∞")), "(")
    high = (sides[at + 1], ")" if marks[at] == "<" else "]") if at + 1 < len(sides) else (Symbol("∞"), ")")
    return names[0], Items(low[1], high[1], (Scalar(low[0]), Scalar(high[0])))


def _same_relation(reference: Relation, answer: Relation) -> bool:
    left, right = _span(reference), _span(answer)
    if left is not None and right is not None:
        return left[0] == right[0] and same(left[1], right[1])
    if left is not None or right is not None:
        return False  # x > 5 is a solution; x - 5 > 0 only repeats the question
    a, b = _ascending(reference), _ascending(answer)
    if a.signs != b.signs:
        return False
    if len(a.sides) == 2:
        first, second = (Sum((r.sides[0], Negative(r.sides[1]))) for r in (a, b))
        return _proportional(first, second) if a.signs[0] in "=≠" else same_value(first, second)
    return all(same_value(x, y) for x, y in zip(a.sides, b.sides, strict=True))


def _ascending(relation: Relation) -> Relation:
    if not set(relation.signs) <= {">", "≥"}:
        return relation
    return Relation(relation.sides[::-1], tuple("<" if s == ">" else "≤" for s in reversed(relation.signs)))


def _proportional(left: Node, right: Node) -> bool:
    """Whether ``left = 0`` and ``right = 0`` are one equation up to a constant factor."""
    names = variables(left)
    if not names or names != variables(right):
        return False
    for first in (7, 22, 41):
        point = {name: Number(Fraction(31 * i + first, 13)) for i, name in enumerate(sorted(names))}
        at_left, at_right = _substitute(left, point), _substitute(right, point)
        if not (_vanishes(at_left) or _vanishes(at_right)):
            return same_value(Product((left, at_right)), Product((right, at_left)))
    return False


def _vanishes(constant: Node) -> bool:
    value, scale = approximate(constant, {})
    return abs(value) <= 1e-9 * scale


def _substitute(node: Node, values: dict[str, Number]) -> Node:
    if isinstance(node, Symbol):
        return values.get(node.name, node)
    return rebuild(node, lambda child: _substitute(child, values))


def _same_ratio(reference: Ratio, answer: Ratio) -> bool:
    if reference.clock or answer.clock or len(reference.terms) != len(answer.terms):
        return reference.terms == answer.terms  # 3:30 may be a ratio, but then none that is reduced
    first, other = reference.terms[0], answer.terms[0]
    pairs = zip(reference.terms[1:], answer.terms[1:], strict=True)
    return all(rational(t) != 0 for t in (first, other)) and all(
        same_value(Product((a, other)), Product((b, first))) for a, b in pairs
    )


@lru_cache(8192)
def same_value(left: Node, right: Node) -> bool:
    """Whether two expressions are equal for all values of their variables.

    Raises `Unparsable` if they have no value.
    """
    if left == right:
        return True
    ends = _infinity(left), _infinity(right)
    if any(ends):
        return ends[0] == ends[1]
    exact = rational(left), rational(right)
    if exact[0] is not None and exact[1] is not None:
        return exact[0] == exact[1] or _rounds_rational(left, exact[1]) or _rounds_rational(right, exact[0])
    check_size(left)
    check_size(right)
    if not _close(left, right):
        return not variables(left) | variables(right) and (_rounds(left, right) or _rounds(right, left))
    if not variables(left) | variables(right) and (_decimal(left) or _decimal(right)):
        return _rounds(left, right) or _rounds(right, left)
    from rewards.symbolic import proved_equal  # sympy takes half a second to load, and most answers never need it

    return proved_equal(left, right)


def _infinity(node: Node) -> int:
    """+1 or -1 for ±∞ alone, else 0."""
    if isinstance(node, Negative):
        return -_infinity(node.inner)
    return 1 if node == Symbol("∞") else 0


def _close(left: Node, right: Node) -> bool:
    """Whether the two agree to nine digits at every probe. Only disagreement is evidence."""
    names = sorted(variables(left) | variables(right))
    for probe in _PROBES if names else _PROBES[:1]:
        values = {name: complex(probe[i % len(probe)]) * (1 + i // len(probe)) for i, name in enumerate(names)}
        a, scale = approximate(left, values)
        b, other = approximate(right, values)
        if abs(a - b) > 1e-9 * max(scale, other, 1e-300):
            return False
    return True


def _decimal(node: Node) -> tuple[Fraction, int, int] | None:
    """A literal with a decimal point: its value, its significant digits, and its decimal places."""
    match node:
        case Number(value, digits, places) if digits:
            return value, digits, places
        case Negative(inner):
            found = _decimal(inner)
            return None if found is None else (-found[0], found[1], found[2])
        case Percent(inner):
            found = _decimal(inner)
            return None if found is None else (found[0] / 100, found[1], found[2] + 2)
        case _:
            return None


def _rounds_rational(literal: Node, exact: Fraction) -> bool:
    found = _decimal(literal)
    return found is not None and not _terminates(exact) and _is_reading(found, exact)


def _terminates(value: Fraction) -> bool:
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def _rounds(literal: Node, exact: Node) -> bool:
    """Whether a decimal literal is a reading of an irrational constant."""
    found = _decimal(literal)
    if found is None or rational(exact) is not None:
        return False
    value, scale = approximate(exact, {})
    if found[1] < MIN_DIGITS or abs(value - float(found[0])) > 1e-5 * scale:
        return False
    from rewards.symbolic import digits_of

    precise = digits_of(exact)
    return precise is not None and _is_reading(found, precise)


def _is_reading(decimal: tuple[Fraction, int, int], exact: Fraction) -> bool:
    """Whether the decimal is ``exact`` rounded, or cut off, at the digits shown: six or more."""
    value, digits, places = decimal
    if digits < MIN_DIGITS or value * exact <= 0:
        return False
    unit = Fraction(10) ** -places
    short = abs(exact) - abs(value)
    # A number printed from a double has noise in its 16th and 17th digit.
    return abs(short) <= max(unit / 2, abs(exact) / 2**52) or 0 <= short < unit
