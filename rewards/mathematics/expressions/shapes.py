"""The shapes that an answer can have, as `parse.answer` reads it and `compare.equivalence` compares it."""

from collections.abc import Callable
from dataclasses import dataclass

from rewards.mathematics.expressions.tree import Node


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value. ``unit`` is the set of its unit's words, if any. Example: ``Scalar(18, {"dollar"})``."""

    node: Node
    unit: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Items:
    """Values side by side: ``1, -2`` (``left`` is empty, any order), ``{1, 2}``, ``(1, 2)`` or ``[1, 2)`` (in order).

    A pair in round or square brackets may be a point or an interval; both compare the same way.
    """

    left: str
    right: str
    items: "tuple[Answer, ...]"


@dataclass(frozen=True, slots=True)
class Union:
    """Intervals and sets joined by ∪, in any order."""

    pieces: "tuple[Answer, ...]"


@dataclass(frozen=True, slots=True)
class Relation:
    """``sides[0] signs[0] sides[1] signs[1] ...``. Example: ``-2 ≤ x < 7``."""

    sides: tuple[Node, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """``x = 5``, ``f(x) = 2x``, ``Area = 12``: a value with what it is the value of."""

    name: str
    value: "Answer"


@dataclass(frozen=True, slots=True)
class Matrix:
    rows: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True, slots=True)
class Based:
    """Digits in a base other than ten: ``2516_8`` is not 2516, nor is its value in base ten the answer asked for."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """``3:4``. A time of day is one too (``clock``), and then only equal to itself."""

    terms: tuple[Node, ...]
    clock: bool


@dataclass(frozen=True, slots=True)
class Words:
    """Text: a name, a direction, yes or no, the letter of a choice. Lower case, without punctuation."""

    text: str


@dataclass(frozen=True, slots=True)
class Congruence:
    """``x ≡ 3 (mod 5)``. ``name`` is empty when only the residue is given."""

    name: str
    residue: int
    modulus: int


@dataclass(frozen=True, slots=True)
class Described:
    """A set given by what its members are, ``{x | x = 3k, k ∈ Z}``: equal only to the same description."""

    text: str


Answer = Scalar | Items | Union | Relation | Named | Matrix | Based | Ratio | Congruence | Described | Words
Read = Callable[[str], Answer]
"""Reads a part of an answer."""
