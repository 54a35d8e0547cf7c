"""Expressions of the calculator: nodes of a parsed text, each computed here, of the kinds below and no others."""

import ast
import operator
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rl.episodes.calculator.numbers import (
    FUNCTIONS,
    MODULES,
    CalculatorError,
    binary,
    checked,
    contains,
    items,
    shown,
    sliced,
)

MOST_STEPS = 100_000
"""Nodes of the tree that are computed; an item of a list is one, too."""
MOST_SECONDS = 2.0
FORMAT = re.compile(r",?(\.\d{1,2})?[fe%]?")
"""Formats of f-strings. A width may not be said: it could be any."""

BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add, "Sub": operator.sub, "Mult": operator.mul, "Div": operator.truediv,
    "FloorDiv": operator.floordiv, "Mod": operator.mod, "Pow": operator.pow,
}  # fmt: skip
UNARY: Mapping[str, Callable[[Any], Any]] = {"USub": operator.neg, "UAdd": operator.pos, "Not": operator.not_}
COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "Eq": operator.eq, "NotEq": operator.ne, "Lt": operator.lt, "LtE": operator.le, "Gt": operator.gt,
    "GtE": operator.ge, "In": lambda a, b: contains(b, a), "NotIn": lambda a, b: not contains(b, a),
}  # fmt: skip


class Expressions:
    """A program's variables, and what it has used of its steps and seconds."""

    def __init__(self) -> None:
        self._names: dict[str, Any] = {**FUNCTIONS, "math": MODULES["math"]}
        self._steps = 0
        self._began = time.monotonic()

    def _count(self, steps: int = 1) -> None:
        self._steps += steps
        if self._steps > MOST_STEPS or time.monotonic() - self._began > MOST_SECONDS:
            raise CalculatorError(f"the program takes more than {MOST_STEPS} steps, or {MOST_SECONDS:g} seconds")

    def _assign(self, target: ast.expr, value: Any) -> None:
        match target:
            case ast.Name(name):
                self._assign_name(name, value)
            case ast.Tuple(targets) | ast.List(targets):
                values = items(value)
                if len(values) != len(targets):
                    raise CalculatorError(f"{len(targets)} names cannot have {len(values)} values")
                for each, part in zip(targets, values, strict=True):
                    self._assign(each, part)
            case _:
                raise CalculatorError("only names can have values")

    def _assign_name(self, name: str, value: Any) -> None:
        self._names[name] = checked(value)

    def _name(self, name: str) -> Any:
        if name not in self._names:
            raise CalculatorError(f"there is no {name[:40]!r}")
        return self._names[name]

    def _value(self, node: ast.expr) -> Any:
        self._count()
        match node:
            case ast.Constant(value):
                return checked(value)
            case ast.Name(name):
                return checked(self._name(name))
            case ast.BinOp(left, operation, right):
                return self._binary(operation, self._value(left), self._value(right))
            case ast.UnaryOp(operation, operand) if (name := words(operation)) in UNARY:
                return checked(UNARY[name](self._value(operand)))
            case ast.BoolOp(operation, values):
                return self._junction(values, ends=isinstance(operation, ast.Or))
            case ast.Compare(left, operations, others):
                return self._comparison(left, operations, others)
            case ast.IfExp(test, body, orelse):
                return self._value(body if self._value(test) else orelse)
            case ast.List(elements):
                return checked([self._value(element) for element in elements])
            case ast.Tuple(elements):
                return checked(tuple(self._value(element) for element in elements))
            case ast.ListComp(element, [loop]) | ast.GeneratorExp(element, [loop]):
                return self._comprehension(element, loop)
            case ast.Subscript(value, ast.Slice(lower, upper, step)):
                bounds = [None if bound is None else self._value(bound) for bound in (lower, upper, step)]
                return sliced(self._value(value), slice(*bounds))
            case ast.Subscript(value, index):
                return items(self._value(value))[self._value(index)]
            case ast.Attribute(ast.Name(module), name):
                return checked(member(self._module(module), name))
            case ast.JoinedStr(parts):
                return checked("".join(self._part(part) for part in parts))
            case ast.Call(function, arguments, []):
                return self._call(function, [self._value(argument) for argument in arguments])
            case _:
                raise CalculatorError(f"{words(node)} is not there: this is a calculator")

    def _part(self, node: ast.expr) -> str:
        """Return a part of an f-string."""
        match node:
            case ast.Constant(str(text)):
                return text
            case ast.FormattedValue(value, -1, None):
                return shown(self._value(value))
            case ast.FormattedValue(value, -1, ast.JoinedStr([ast.Constant(str(form))])) if FORMAT.fullmatch(form):
                return format(self._value(value), form)
            case _:
                raise CalculatorError("an f-string may have values, and formats such as :.2f")

    def _binary(self, operation: ast.operator, left: Any, right: Any) -> Any:
        name = words(operation)
        if name not in BINARY:
            raise CalculatorError(f"the operator {name} is not there: this is a calculator")
        return binary(name, BINARY[name], left, right)

    def _junction(self, values: Sequence[ast.expr], *, ends: bool) -> Any:
        """Return the first value that decides it, or the last one."""
        value: Any = None
        for node in values:
            value = self._value(node)
            if bool(value) is ends:
                break
        return value

    def _comparison(self, left: ast.expr, operations: Sequence[ast.cmpop], others: Sequence[ast.expr]) -> bool:
        value = self._value(left)
        for operation, node in zip(operations, others, strict=True):
            other_value = self._value(node)
            name = words(operation)
            if name not in COMPARE:
                raise CalculatorError(f"the comparison {name} is not there: this is a calculator")
            if not COMPARE[name](value, other_value):
                return False
            value = other_value
        return True

    def _comprehension(self, element: ast.expr, loop: ast.comprehension) -> list[Any]:
        results: list[Any] = []
        values, outside = self._items(loop.iter), self._names
        self._names = dict(outside)  # the loop's variable is its own, and hides one of the same name
        for value in values:
            self._assign(loop.target, value)
            if all(self._value(test) for test in loop.ifs):
                results.append(self._value(element))
        self._names = outside
        return checked(results)

    def _items(self, node: ast.expr) -> list[Any]:
        values = items(self._value(node))
        self._count(len(values))
        return values

    def _call(self, function: ast.expr, arguments: list[Any]) -> Any:
        for argument in arguments:
            self._count(len(argument) if isinstance(argument, list | tuple | range | str) else 1)
        match function:
            case ast.Name(name):
                called = self._name(name)
            case ast.Attribute(ast.Name(name), "append") if isinstance(grown := self._name(name), list):
                if len(arguments) != 1:
                    raise CalculatorError("append takes one value")
                grown.append(checked([*grown, *arguments])[-1])
                return None
            case ast.Attribute(ast.Name(module), name):
                called = member(self._module(module), name)
            case _:
                raise CalculatorError("only the functions listed can be called")
        if not callable(called):
            raise CalculatorError("only the functions listed can be called")
        try:
            return called(*arguments)
        except TypeError:
            raise CalculatorError(f"{ast.unparse(function)[:40]} does not take these values") from None

    def _module(self, name: str) -> Mapping[str, Any]:
        module = self._name(name)
        if not any(module is known for known in MODULES.values()):
            raise CalculatorError("nothing has attributes here: this is a calculator")
        return module


def module_named(name: str) -> Mapping[str, Any]:
    if name not in MODULES:
        raise CalculatorError(f"no module {name[:40]!r} here: only {' and '.join(MODULES)}")
    return MODULES[name]


def member(module: Mapping[str, Any], name: str) -> Any:
    if name not in module:
        raise CalculatorError(f"no {name[:40]!r} in that module")
    return module[name]


def words(node: ast.AST) -> str:
    return type(node).__name__
