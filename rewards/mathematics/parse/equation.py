"""Reads equations and inequalities: a name with its value, a chain of equal sides, or a relation."""

import contextlib
import re

from rewards.mathematics.expressions.evaluate import approximate, is_known, variables
from rewards.mathematics.expressions.interval import without
from rewards.mathematics.expressions.shapes import Answer, Items, Named, Read, Relation, Scalar
from rewards.mathematics.expressions.tree import (
    Call,
    Node,
    Number,
    Product,
    Quotient,
    Sum,
    Symbol,
    Unparsable,
    parts,
    rebuild,
    walk,
)
from rewards.mathematics.parse.scalar import parse_scalar, parse_value
from rewards.mathematics.parse.words import is_text
from rewards.mathematics.text.brackets import RELATIONS, marks, split
from rewards.mathematics.text.normalize import KNOWN_WORDS
from rewards.mathematics.text.unit import NOT_UNITS

CLOSE, ROUGH = 1e-5, 0.05
"""Relative distances at which the sides of = and of ≈ may be: models write sqrt(2) = 1.41421 and 2/3 ≈ 0.7."""
MAX_SIDES = 12

_NAME = re.compile(r"^(?:\\?[A-Za-z]+ ?(?:_ ?(?:\{ ?\w{1,8} ?\}|\w))? ?'?(?:\( ?[a-zA-Z0-9, ]{1,9} ?\))?)$")
_NAMES = (
    # AB, the angle ABC, the length |AB|, the area [ABC]
    re.compile(r"^(?:m ?)?(?:\\(?:angle|triangle|overline|measuredangle|vec|hat|bar) ?)?\{? ?[A-Z]{1,4} ?\}?$"),
    re.compile(r"^(?:\[ ?[A-Z]{3,6} ?\]|\| ?[A-Z]{2} ?\|)$"),
    re.compile(r"^\\frac ?\{ ?d ?\w? ?\} ?\{ ?d ?\w ?\}$"),  # dy/dx
    re.compile(r"^\\frac ?\{ ?\[?[A-Z]{2,5}\]? ?\} ?\{ ?\[?[A-Z]{2,5}\]? ?\}$"),  # AB/CD
    re.compile(r"^[a-zA-Z] ?\^ ?\{? ?-1 ?\}? ?(?:\([^()]{1,20}\))?$"),  # f^{-1}(3), the inverse A^{-1}
    re.compile(r"^\\(?:sin|cos|tan|cot|sec|csc) ?(?:\\angle ?)?\(? ?(?:[A-Za-z]{1,3}|\\[a-z]+) ?\)?$"),
    re.compile(r"^(?:[EP]|\\mathbb ?\{ ?[EP] ?\}) ?[\[(][^\[\]()]{1,20}[\])]$"),  # an expectation, a probability
    re.compile(r"^\\(?:bar|hat|tilde|vec) ?\{? ?[A-Za-z] ?\}?$"),
    re.compile(r"^[A-Za-z] ?_ ?\{ ?(?:\\text\{ ?)?\\?(?:min|max|total|avg|new|old|final|initial) ?\}? ?\}?$"),
    re.compile(r"^\\?(?:det|gcd|lcm|deg|dim|Pr|max|min) ?(?:[A-Z]|\([^()=]{1,30}\))?$"),
    re.compile(r"^[a-zA-Z]\([a-zA-Z]\(-?\w{1,4}\)\)$"),  # f(g(1))
    re.compile(r"^\w ?(?:_ ?\{? ?\w ?\}?)? ?: ?\w ?(?:_ ?\{? ?\w ?\}?)?$"),  # a ratio of two
)
_CHANGED = re.compile(
    r"\b(?:minus|plus|half|halves|twice|thrice|doubled?|tripled?|negative|opposite|negated|dozens?|tens|hundreds?|"
    r"thousands?|millions?|squared|cubed|reciprocal|factorial|not|wrong|incorrect|false|never|except|without|"
    r"neither|nor)\b",
    re.IGNORECASE,
)
"""Words of a name that make another number of its value: "answer minus one = 42", "dozens = 42"."""
_CALCULATION = re.compile(r"\\(?:int|sum|prod|lim|det|begin|max|min|gcd|lcm|cdots|ldots)\b|…")
_NO_CALCULATION = re.compile(
    r"\\text|\\\\|[;,?{]\s*$|->|\\(?:[Rr]ightarrow|to|iff|implies|oplus)\b|[∨∧⊕;?]|\b(?:or|xor|and)\b"
)
"""Signs by which the middle of a chain of equals may be one that the grammar does not know, and may not."""
_COORDINATES = re.compile(r"^\( ?([a-zA-Z](?: ?, ?[a-zA-Z]){1,3}|r ?, ?\\theta) ?\)$")


def read_relation(text: str, read: Read) -> Answer | None:
    """An equation or an inequality; None when the text has no sign of one."""
    pieces = split(text, RELATIONS)
    if len(pieces) == 1:
        return None
    if len(pieces) > MAX_SIDES or not all(pieces):
        raise Unparsable("a sign with nothing beside it")
    signs = marks(text)
    if set(signs) <= {"=", "≈"}:
        return _equation(pieces, signs, read)
    if signs == ["≠"] and pieces[1].startswith("±"):
        return _unequal_to_both(pieces)
    return Relation(tuple(parse_value(p) for p in pieces), tuple(signs))


def _unequal_to_both(pieces: list[str]) -> Answer:
    """``x ≠ ±5``: the line without two points."""
    both = parse_scalar(pieces[1])
    if not isinstance(both, Items) or not isinstance(parse_value(pieces[0]), Symbol):
        raise Unparsable("± has two readings here")
    points = [p for p in both.items if isinstance(p, Scalar)]
    return without(tuple(sorted(points, key=lambda p: approximate(p.node, {})[0].real)))


def _equation(pieces: list[str], signs: list[str], read: Read) -> Answer:
    """``name = ... = value`` and arithmetic like ``2 * 9 = 18`` state their last side; others state themselves.

    What follows ≈ is only a reading of what stands before it.
    """
    if len({p.strip() for p in pieces}) == 1:
        raise Unparsable("an equation that says nothing")  # 1 = 1
    rough = "≈" in signs
    if rough:
        at = signs.index("≈")
        if at > 0 or not is_name(pieces[0]):
            _agree(pieces[at:], ROUGH, every=True)
            pieces = pieces[: at + 1]
    if len(pieces) == 1:
        return read(pieces[0])
    if _COORDINATES.match(pieces[0]):
        return _coordinates(pieces, read)
    if is_name(pieces[0]):
        for piece in pieces[1:-1]:
            _check_step(pieces[0].strip(), piece)
        _agree(pieces[1:], ROUGH if rough else CLOSE)
        name = re.sub(r"\\text\{|\}", "", pieces[0]).strip()
        value = read(pieces[-1])
        if len(pieces) == 2 and isinstance(value, Scalar) and name in variables(value.node):
            return Relation((Symbol(name), value.node), ("=",))  # x = x^2 + 1 says nothing of x^2 + 1
        return Named(name if is_text(name) else name.replace(" ", ""), value)
    if len(pieces) == 2 and len(pieces[1]) == 1 and is_name(pieces[1]):
        return Named(pieces[1], read(pieces[0]))
    return _sides(pieces)


def _check_step(name: str, piece: str) -> None:
    """Raise `Unparsable` for the middle of a chain that is no calculation: ``x = 17 \\iff x = 18`` has two values."""
    if piece.lstrip().startswith("\\text") or re.search(rf"(?<![A-Za-z\\]){re.escape(name)}(?![A-Za-z])", piece):
        raise Unparsable("a chain of several equations")
    try:
        parse_scalar(piece)
    except Unparsable:
        if not _CALCULATION.search(piece) or _NO_CALCULATION.search(piece):
            raise


def _sides(pieces: list[str]) -> Answer:
    first = parse_value(pieces[0])
    if not variables(first) and _is_of_values(first):
        _agree(pieces[1:], CLOSE)
        return Named(pieces[0].replace(" ", ""), parse_scalar(pieces[-1]))
    if not variables(first):
        return _arithmetic([first, *map(parse_value, pieces[1:-1])], parse_scalar(pieces[-1]))
    if len(pieces) == 2:
        return Relation((first, parse_value(pieces[1])), ("=",))
    rest = [parse_value(p) for p in pieces[1:-1]]
    if any(variables(n) for n in rest) or any(isinstance(n, Number) for n in walk(first)):
        raise Unparsable("a chain of equations")
    return Named(pieces[0].replace(" ", ""), _arithmetic(rest, parse_scalar(pieces[-1])))


def _agree(pieces: list[str], tolerance: float, *, every: bool = False) -> None:
    """Raise `Unparsable` when two numbers in a chain of equals are not equal: x = 6 = 5 says nothing. With ``every``
    also when a side is no number."""
    values: list[complex] = []
    for piece in pieces:
        with contextlib.nullcontext() if every else contextlib.suppress(Unparsable):
            scalar = parse_scalar(piece)
            if isinstance(scalar, Scalar) and not variables(scalar.node) and not _is_applied(scalar.node):
                values.append(approximate(scalar.node, {})[0])
    whole = all(v == round(v.real) for v in values)  # nothing about 42 is approximately 43
    if any(abs(v - values[0]) > (0 if whole else tolerance * max(abs(v), abs(values[0]))) for v in values[1:]):
        raise Unparsable("sides that are not equal")


def _is_applied(node: Node) -> bool:
    """Return True if the value is one of a function that only the problem knows: f(3)."""
    return any(isinstance(n, Call) and not is_known(n.name) for n in walk(node))


def _is_of_values(node: Node) -> bool:
    """Return True for values of unknown functions, and sums and products of them: f(-2) + f(0)."""
    if isinstance(node, Call):
        return not is_known(node.name)
    return isinstance(node, Sum | Product | Quotient) and all(map(_is_of_values, parts(node)))


def _coordinates(pieces: list[str], read: Read) -> Answer:
    """``(x, y) = (1, 2)``: a point, if its letters come in their usual order."""
    letters = [p.strip() for p in pieces[0].strip("() ").split(",")]
    point = read(pieces[-1])
    several = point.items if isinstance(point, Items) and not point.left else (point,)
    if letters != sorted(letters) or len(pieces) != 2:
        raise Unparsable("coordinates in an order of their own")
    if any(not isinstance(p, Items) or len(p.items) != len(letters) for p in several):
        raise Unparsable("not a value for each coordinate")
    return point


def _arithmetic(sides: list[Node], last: Scalar | Items) -> Scalar:
    """The value of a true statement about numbers; 5 = 6 says nothing."""
    if not isinstance(last, Scalar) or any(variables(n) for n in (*sides, last.node)):
        raise Unparsable("an equation whose first side has no variable")
    value, scale = approximate(last.node, {})
    for side in sides:
        readings = [approximate(_with_base(side, base), {}) for base in ("ln", "lg")]
        if not any(abs(v - value) <= 1e-9 * max(scale, size, abs(value)) for v, size in readings):
            raise Unparsable("sides that are not equal")
    return last


def _with_base(node: Node, base: str) -> Node:
    """The expression with a base for its bare logarithms: log 0.01 = -2 is true in base ten."""
    if isinstance(node, Call) and node.name == "log":
        node = Call(base, node.arguments)
    return rebuild(node, lambda child: _with_base(child, base))


def is_name(text: str) -> bool:
    """Return True if the left side only names what the right side is: a variable, f(x), or words."""
    if text in ("e", "i", "pi", "π") or _CHANGED.search(text):
        return False
    if any(name.match(text) for name in _NAMES):
        return True
    if _NAME.match(text):
        word = re.match(r"\\?([A-Za-z]+)", text)
        assert word is not None
        return word[1] not in KNOWN_WORDS and (len(word[1]) == 1 or text.startswith("\\") or len(word[1]) > 3)
    plain = re.sub(r"\\text\{([^{}]*)\}", r"\1", text).strip()
    return is_text(plain) and len(plain) > 3 and plain.split(" ")[0].lower() not in NOT_UNITS
