"""A small language of mathematical expressions: a bounded tree, and ways to go through it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction


class Unparsable(ValueError):
    """The text is not in the grammar, is ambiguous in it, or is too large to look at."""


@dataclass(frozen=True, slots=True)
class Number:
    """A literal. ``digits`` counts the significant digits of one written with a decimal point, and is 0 for the others.

    Example: ``Number(Fraction(5, 4), digits=3, places=2)`` is ``1.25``.
    """

    value: Fraction
    digits: int = 0
    places: int = 0
    notation: str = field(default="", compare=False)
    """``repeating`` or ``mixed`` for a number written so; equal to the same number without."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """A variable, or one of the constants ``e``, ``i``, ``π``, ``∞``. Case matters: R is not r."""

    name: str


@dataclass(frozen=True, slots=True)
class Sum:
    terms: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Product:
    factors: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Quotient:
    top: "Node"
    bottom: "Node"


@dataclass(frozen=True, slots=True)
class Power:
    base: "Node"
    exponent: "Node"


@dataclass(frozen=True, slots=True)
class Negative:
    inner: "Node"


@dataclass(frozen=True, slots=True)
class Percent:
    inner: "Node"


@dataclass(frozen=True, slots=True)
class PlusMinus:
    """``sign`` is +1 for ``±x`` and -1 for ``∓x``: the sign of the first reading."""

    inner: "Node"
    sign: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function of its arguments: the elementary ones, ``factorial``, ``binom``, ``root``, ``abs``, ``floor``,
    ``ceil``, ``log`` (no base given: its base is left open, so it is not ``ln``), and unknown ones such as ``f``.
    """

    name: str
    arguments: "tuple[Node, ...]"


Node = Number | Symbol | Sum | Product | Quotient | Power | Negative | Percent | PlusMinus | Call


def parts(node: Node) -> tuple[Node, ...]:
    """The direct children of a node."""
    match node:
        case Number() | Symbol():
            return ()
        case Sum(terms):
            return terms
        case Product(factors):
            return factors
        case Quotient(top, bottom):
            return (top, bottom)
        case Power(base, exponent):
            return (base, exponent)
        case Negative(inner) | Percent(inner) | PlusMinus(inner, _):
            return (inner,)
        case Call(_, arguments):
            return arguments


def walk(node: Node) -> list[Node]:
    """The node and everything under it."""
    nodes = [node]
    for each in nodes:
        nodes.extend(parts(each))
    return nodes


def terms(node: Node) -> list[Node]:
    """The terms of a sum, with those of the sums within it."""
    if isinstance(node, Sum):
        return [t for each in node.terms for t in terms(each)]
    if isinstance(node, Negative) and isinstance(node.inner, Sum):
        return [Negative(t) for t in terms(node.inner)]
    return [node]


def factors(node: Node) -> list[Node]:
    """The factors of a product, with those of the products within it; a sign is left out."""
    if isinstance(node, Product):
        return [f for each in node.factors for f in factors(each)]
    return factors(node.inner) if isinstance(node, Negative) else [node]


def rebuild(node: Node, change: Callable[[Node], Node]) -> Node:
    """The same node with ``change`` applied to its children."""
    match node:
        case Number() | Symbol():
            return node
        case Sum(terms):
            return Sum(tuple(change(t) for t in terms))
        case Product(factors):
            return Product(tuple(change(f) for f in factors))
        case Quotient(top, bottom):
            return Quotient(change(top), change(bottom))
        case Power(base, exponent):
            return Power(change(base), change(exponent))
        case Negative(inner):
            return Negative(change(inner))
        case Percent(inner):
            return Percent(change(inner))
        case PlusMinus(inner, sign):
            return PlusMinus(change(inner), sign)
        case Call(name, arguments):
            return Call(name, tuple(change(a) for a in arguments))


def signs(node: Node) -> tuple[Node, ...]:
    """The two readings of an expression with one ``±`` (``∓`` may answer it), or the expression alone."""
    marks = [n for n in walk(node) if isinstance(n, PlusMinus)]
    if not marks:
        return (node,)
    if sum(m.sign == 1 for m in marks) != 1 or len(marks) > 2:
        raise Unparsable("more than one ± has several readings")
    return (_signed(node, 1), _signed(node, -1))


def _signed(node: Node, sign: int) -> Node:
    if isinstance(node, PlusMinus):
        inner = _signed(node.inner, sign)
        return inner if node.sign == sign else Negative(inner)
    return rebuild(node, lambda child: _signed(child, sign))
