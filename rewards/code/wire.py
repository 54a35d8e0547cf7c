"""Values on their way between a program and its tests: plain data by value, everything else by a number.

Nothing that arrives can run anything: it is JSON, and what it stands for is built from Python's own types.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from itertools import islice
from typing import Any

MOST_ITEMS = 100_000
"""Items taken from an iterator, which may have no end."""


def encode(value: Any, number_of: Callable[[Any], int]) -> Any:
    """Return a value as JSON knows it. ``number_of`` keeps an object and returns its number."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return [kind.__name__, [encode(v, number_of) for v in value]]
    if isinstance(value, dict):
        return ["dict", [[encode(k, number_of), encode(v, number_of)] for k, v in value.items()]]
    if isinstance(value, range):
        return ["range", [value.start, value.stop, value.step]]
    if isinstance(value, complex):
        return ["complex", [value.real, value.imag]]
    if isinstance(value, bytes | bytearray):
        return ["bytes", value.hex()]
    if isinstance(value, Decimal | Fraction):
        return [type(value).__name__, str(value)]
    if isinstance(value, Iterator):
        return ["iter", [encode(v, number_of) for v in islice(value, MOST_ITEMS)]]
    return ["object", number_of(value)]


def decode(data: Any, object_of: Callable[[int], Any]) -> Any:
    """Return the value. Raises ValueError, TypeError or KeyError for what is none."""
    if not isinstance(data, list):
        return data
    kind, content = data
    return _BUILDERS[kind](content, lambda each: decode(each, object_of), object_of)


_Part = Callable[[Any], Any]
_BUILDERS: dict[str, Callable[[Any, _Part, Callable[[int], Any]], Any]] = {
    "list": lambda content, part, _: [part(v) for v in content],
    "tuple": lambda content, part, _: tuple(part(v) for v in content),
    "set": lambda content, part, _: {part(v) for v in content},
    "frozenset": lambda content, part, _: frozenset(part(v) for v in content),
    "dict": lambda content, part, _: {part(k): part(v) for k, v in content},
    "iter": lambda content, part, _: iter([part(v) for v in content]),
    "range": lambda content, part, _: range(*content),
    "complex": lambda content, part, _: complex(*content),
    "bytes": lambda content, part, _: bytes.fromhex(content),
    "Decimal": lambda content, part, _: Decimal(content),
    "Fraction": lambda content, part, _: Fraction(content),
    "object": lambda content, part, object_of: object_of(content),
}
