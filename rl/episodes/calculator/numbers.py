"""The calculator's values: kinds, bounds, and functions on them, each of which looks at sizes before it works."""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import reduce
from typing import Any, cast

MOST_BITS = 10_000
"""Bits of an integer, or of a fraction's parts."""
MOST_ITEMS = 10_000
"""Items of a list with those of the lists and the characters of the texts in it, and characters of a text."""
SCALARS = (bool, int, float, Fraction, str, type(None))
NUMBER = re.compile(r"\s*[-+]?(\d{1,400}(/\d{1,400})?|\d{0,400}\.\d{1,400})\s*")
"""Texts that may become numbers. An exponent may not: 1e999999999 would be written out."""


class CalculatorError(Exception):
    """A fault of a program, in words for whoever wrote it."""


def checked(value: Any) -> Any:
    """Return a value of a kind and a size that the calculator has. Raises CalculatorError for any other."""
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise CalculatorError(f"a number has more than {MOST_BITS} bits")
    if isinstance(value, Fraction):
        checked(value.numerator)
        checked(value.denominator)
    elif isinstance(value, str) and len(value) > MOST_ITEMS:
        raise CalculatorError(f"a text has more than {MOST_ITEMS} characters")
    elif isinstance(value, list | tuple):
        _check_weight(cast("Sequence[Any]", value))
    elif not isinstance(value, (*SCALARS, range)):
        raise CalculatorError(f"no values of type {type(value).__name__} here")
    return value


def _check_weight(value: Sequence[Any]) -> None:
    """See that a list and all in it are of a size. A list may hold another one twice, or itself: all count."""
    waiting: list[Any] = [value]
    weight = 0
    while waiting:
        item = waiting.pop()
        if isinstance(item, list | tuple | str):
            weight += len(cast("Sequence[Any]", item))
            if weight > MOST_ITEMS:
                raise CalculatorError(f"a list has more than {MOST_ITEMS} items, or characters in its texts")
        if isinstance(item, list | tuple):
            waiting += cast("Sequence[Any]", item)
        else:
            checked(item)


def items(value: Any) -> list[Any]:
    """Return the items of a list, a range or a text. Raises CalculatorError if they are too many, or none."""
    if not isinstance(value, list | tuple | range | str):
        raise CalculatorError(f"{type(value).__name__} has no items")
    if len(cast("Sequence[Any]", value)) > MOST_ITEMS:
        raise CalculatorError(f"more than {MOST_ITEMS} items")
    return list(cast("Iterable[Any]", value))


def sliced(value: Any, bounds: slice) -> Any:
    """Return a slice of a list, a tuple, a range or a text, which is of the same kind. Raises as `items`."""
    items(value)
    return value[bounds]


def contains(value: Any, sought: Any) -> bool:
    """Return True if it is among the items, or a part of the text. Raises CalculatorError for what has no items."""
    if isinstance(value, str) and not isinstance(sought, str):
        raise CalculatorError("only a text is in a text")
    return sought in (value if isinstance(value, str) else items(value))


def binary(name: str, work: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """Return the result of an operator on two values, unless it would be too large."""
    if isinstance(left, str | list | tuple) or isinstance(right, str | list | tuple):
        _check_sequences(name, left, right)
    elif name == "Pow":
        _check_power(left, right)
    elif not (_is_number(left) and _is_number(right)):
        raise CalculatorError(f"{type(left).__name__} and {type(right).__name__} are not both numbers")
    return checked(work(left, right))


def power(base: Any, exponent: Any, modulus: Any = None) -> Any:
    """Return base ** exponent, by a modulus if there is one."""
    if modulus is None:
        return binary("Pow", pow, base, exponent)
    return checked(pow(*(_integer(value) for value in (base, exponent, modulus))))


def total(values: Any, start: Any = 0) -> Any:
    """Return the sum of numbers; one of lists would look at all that it has at each of them."""
    start = _plain(start)
    for value in items(values):
        start = binary("Add", operator.add, start, _plain(value))
    return start


def product(values: Any) -> Any:
    """Return the product of numbers."""
    result: Any = 1
    for value in items(values):
        result = binary("Mult", operator.mul, result, _plain(value))
    return result


def shown(value: Any) -> str:
    """Return a value as print shows it. Lists are of a size, however deep."""
    checked(value)
    return str(value)


def _check_sequences(name: str, left: Any, right: Any) -> None:
    if name == "Add" and type(left) is type(right):
        if len(left) + len(right) > MOST_ITEMS:
            raise CalculatorError(f"more than {MOST_ITEMS} items")
    elif name == "Mult" and isinstance(left, str | list | tuple) and isinstance(right, int):
        if len(cast("Sequence[Any]", left)) * right > MOST_ITEMS:
            raise CalculatorError(f"more than {MOST_ITEMS} items")
    else:
        raise CalculatorError(f"{type(left).__name__} and {type(right).__name__} do not go together")


def _check_power(base: Any, exponent: Any) -> None:
    if not (_is_number(base) and _is_number(exponent)):
        raise CalculatorError("a power is of numbers")
    if isinstance(base, float) or isinstance(exponent, float):
        if base < 0 and exponent != int(exponent):
            raise CalculatorError("a root of a negative number is not real")
        return
    bits = max(abs(part).bit_length() for part in (base.numerator, base.denominator))
    if bits > 1 and bits * abs(exponent) > MOST_BITS:
        raise CalculatorError(f"a number has more than {MOST_BITS} bits")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Fraction)


def _integer(value: Any, most: int | None = None) -> int:
    if not isinstance(value, int):
        raise CalculatorError(f"{shown(value)} is no integer")
    if most is not None and abs(value) > most:
        raise CalculatorError(f"{shown(value)} is above {most}")
    return value


def _number(value: Any, make: Callable[[Any], Any]) -> Any:
    if isinstance(value, str) and not NUMBER.fullmatch(value):
        raise CalculatorError(f"{value[:20]!r} is no number")
    if not isinstance(value, str) and not _is_number(value):
        raise CalculatorError(f"{type(value).__name__} is no number")
    return checked(make(value))


def _fraction(numerator: Any = 0, denominator: Any = 1) -> Any:
    return binary("Div", operator.truediv, _number(numerator, Fraction), _number(denominator, Fraction))


def _of_number(work: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a function that takes a number and no text, list or other thing that Python's may take."""

    def function(value: Any) -> Any:
        return checked(work(_plain(value)))

    return function


def _of_integers(work: Callable[..., int], most: int | None = None) -> Callable[..., int]:
    def function(*values: Any) -> int:
        return checked(work(*(_integer(value, most) for value in values)))

    return function


def _of_items(work: Callable[[list[Any]], Any]) -> Callable[..., Any]:
    """Return a function of one list, or of several values."""

    def function(*values: Any) -> Any:
        return checked(work(items(values[0] if len(values) == 1 else values)))

    return function


def _rounded(value: Any, digits: Any = None) -> Any:
    number = _plain(value)
    return checked(round(number) if digits is None else round(number, _integer(digits, 100)))


def _range(*bounds: Any) -> range:
    return range(*(_integer(bound) for bound in bounds))


def _zipped(*values: Any) -> list[tuple[Any, ...]]:
    return checked(list(zip(*map(items, values), strict=False)))


def _plain(value: Any) -> Any:
    return _number(value, lambda number: number)


def _float(value: Any) -> Any:
    return _number(value, float)


def _int(value: Any) -> Any:
    return _number(value, int)


def _gcd(*values: Any) -> Any:
    return reduce(_of_integers(math.gcd), values, 0)


def _lcm(*values: Any) -> Any:
    return reduce(_of_integers(math.lcm), values, 1)


def _log(value: Any, base: Any = math.e) -> Any:
    return checked(math.log(_plain(value), _plain(base)))


def _atan2(y: Any, x: Any) -> Any:
    return math.atan2(_float(y), _float(x))


def _hypot(*values: Any) -> Any:
    return math.hypot(*map(_float, values))


def _float_power(base: Any, exponent: Any) -> Any:
    return power(_float(base), _float(exponent))


def _enumerated(values: Any) -> Any:
    return checked(list(enumerate(items(values))))


def _reversed(values: Any) -> Any:
    return items(values)[::-1]


def _divmod(left: Any, right: Any) -> Any:
    return binary("FloorDiv", operator.floordiv, left, right), binary("Mod", operator.mod, left, right)


MATH: Mapping[str, Any] = {
    **{name: getattr(math, name) for name in ("pi", "e", "tau", "inf")},
    **{
        name: _of_number(getattr(math, name))
        for name in (
            "sqrt", "exp", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh",
            "degrees", "radians", "floor", "ceil", "trunc", "fabs", "isqrt", "isfinite",
        )
    },
    **{name: _of_integers(getattr(math, name), 1000) for name in ("factorial", "comb", "perm")},
    "gcd": _gcd, "lcm": _lcm, "log": _log, "atan2": _atan2, "hypot": _hypot, "pow": _float_power, "prod": product,
}  # fmt: skip
FUNCTIONS: Mapping[str, Any] = {
    "abs": _of_number(abs), "round": _rounded, "pow": power, "sum": total, "min": _of_items(min), "max": _of_items(max),
    "len": _of_items(len), "sorted": _of_items(sorted), "list": _of_items(list), "tuple": _of_items(tuple),
    "any": _of_items(any), "all": _of_items(all), "range": _range, "zip": _zipped, "enumerate": _enumerated,
    "reversed": _reversed, "int": _int, "float": _float, "bool": bool, "str": shown, "divmod": _divmod,
    "Fraction": _fraction,
}  # fmt: skip
MODULES: Mapping[str, Mapping[str, Any]] = {"math": MATH, "fractions": {"Fraction": _fraction}}
