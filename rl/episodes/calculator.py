"""A calculator that reads Python: an interpreter of a small part of the language that can reach nothing but numbers.

Nothing is compiled or executed. A text is parsed into a tree, and each node of the kinds below is computed here. Any
other kind is an error, so there are no attributes, no imports and no functions but those listed. Every size has a bound
that is looked at before the work is done: steps, seconds, bits of numbers, lengths of texts and lists, output.
"""

import ast
import operator
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rl.episodes.numbers import FUNCTIONS, MODULES, CalculatorError, binary, checked, items, shown

MOST_SOURCE = 4000
"""Characters of a program."""
MOST_STEPS = 100_000
"""Nodes of the tree that are computed; an item of a list is one, too."""
MOST_SECONDS = 2.0
MOST_OUTPUT = 2000
"""Characters of what a program prints."""
FORMAT = re.compile(r",?(\.\d{1,2})?[fe%]?")
"""Formats of f-strings. A width may not be said: it could be any."""
DEPTH = 50
"""Levels of a tree."""

BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add, "Sub": operator.sub, "Mult": operator.mul, "Div": operator.truediv,
    "FloorDiv": operator.floordiv, "Mod": operator.mod, "Pow": operator.pow,
}  # fmt: skip
UNARY: Mapping[str, Callable[[Any], Any]] = {"USub": operator.neg, "UAdd": operator.pos, "Not": operator.not_}
COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "Eq": operator.eq, "NotEq": operator.ne, "Lt": operator.lt, "LtE": operator.le, "Gt": operator.gt,
    "GtE": operator.ge, "In": lambda a, b: a in items(b), "NotIn": lambda a, b: a not in items(b),
}  # fmt: skip


def calculate(source: str) -> str:
    """Return what a program prints, and its last line's value if that is an expression; or what is wrong with it."""
    try:
        return _Program().run(source)
    except RecursionError:
        return "Error: too deep"
    except SyntaxError as error:
        return f"Error: line {error.lineno}: {error.msg}"[:MOST_OUTPUT]
    except MemoryError:
        raise
    except Exception as error:
        return f"Error: {str(error) or type(error).__name__}"[:MOST_OUTPUT]


class _Leave(Exception):
    """The end of a loop, or of a round of it."""

    def __init__(self, *, loop: bool) -> None:
        super().__init__("break and continue are for loops")
        self.loop = loop


class _Program:
    """A program's variables, its output, and what it has used of its limits."""

    def __init__(self) -> None:
        self._names: dict[str, Any] = {**FUNCTIONS, "math": MODULES["math"], "print": self._print}
        self._output: list[str] = []
        self._steps = 0
        self._began = time.monotonic()

    def run(self, source: str) -> str:
        """Return the output. Raises Exception for whatever is wrong with the program."""
        if len(source) > MOST_SOURCE:
            raise CalculatorError(f"a program has at most {MOST_SOURCE} characters")
        try:
            tree = ast.parse(source.strip())
        except MemoryError:  # of the parser, whose stack has a bound
            raise CalculatorError("the program is nested too deeply") from None
        _check_depth(tree)
        last: Any = None
        for statement in tree.body:
            last = self._execute(statement)
        if last is not None:
            self._print(last)
        return "\n".join(self._output) or "(nothing was printed)"

    def _print(self, *values: Any) -> None:
        self._output.append(" ".join(map(shown, values)))
        if sum(map(len, self._output)) > MOST_OUTPUT:
            raise CalculatorError(f"more than {MOST_OUTPUT} characters were printed")

    def _count(self, steps: int = 1) -> None:
        self._steps += steps
        if self._steps > MOST_STEPS or time.monotonic() - self._began > MOST_SECONDS:
            raise CalculatorError(f"the program takes more than {MOST_STEPS} steps, or {MOST_SECONDS:g} seconds")

    def _execute(self, node: ast.stmt) -> Any:
        """Execute a statement; return an expression's value."""
        self._count()
        match node:
            case ast.Expr(value):
                return self._value(value)
            case ast.Assign(targets, value):
                result = self._value(value)
                for target in targets:
                    self._assign(target, result)
            case ast.AugAssign(ast.Name(name), operation, value):
                self._assign_name(name, self._binary(operation, self._name(name), self._value(value)))
            case ast.If(test, body, orelse):
                self._block(body if self._value(test) else orelse)
            case ast.For(target, iterated, body, []):
                self._loop(body, self._items(iterated), target)
            case ast.While(test, body, []):
                while self._value(test) and self._round(body):
                    pass
            case ast.Break() | ast.Continue():
                raise _Leave(loop=isinstance(node, ast.Break))
            case ast.Import(aliases):
                for alias in aliases:
                    self._names[alias.asname or alias.name] = _module(alias.name)
            case ast.ImportFrom(str(name), aliases, 0):
                for alias in aliases:
                    self._names[alias.asname or alias.name] = _member(_module(name), alias.name)
            case ast.Pass():
                pass
            case _:
                raise CalculatorError(f"{_words(node)} is not there: this is a calculator")
        return None

    def _block(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            self._execute(statement)

    def _loop(self, body: Sequence[ast.stmt], values: Sequence[Any], target: ast.expr) -> None:
        for value in values:
            self._assign(target, value)
            if not self._round(body):
                return

    def _round(self, body: Sequence[ast.stmt]) -> bool:
        """Execute a loop's body once; return False if it leaves the loop."""
        self._count()
        try:
            self._block(body)
        except _Leave as leave:
            return not leave.loop
        return True

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
            case ast.UnaryOp(operation, operand) if (name := _words(operation)) in UNARY:
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
                return items(self._value(value))[slice(*bounds)]
            case ast.Subscript(value, index):
                return items(self._value(value))[self._value(index)]
            case ast.Attribute(ast.Name(module), name):
                return checked(_member(self._module(module), name))
            case ast.JoinedStr(parts):
                return checked("".join(self._part(part) for part in parts))
            case ast.Call(function, arguments, []):
                return self._call(function, [self._value(argument) for argument in arguments])
            case _:
                raise CalculatorError(f"{_words(node)} is not there: this is a calculator")

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
        name = _words(operation)
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
            name = _words(operation)
            if name not in COMPARE:
                raise CalculatorError(f"the comparison {name} is not there: this is a calculator")
            if not COMPARE[name](value, other_value):
                return False
            value = other_value
        return True

    def _comprehension(self, element: ast.expr, loop: ast.comprehension) -> list[Any]:
        results: list[Any] = []
        for value in self._items(loop.iter):
            self._assign(loop.target, value)
            if all(self._value(test) for test in loop.ifs):
                results.append(self._value(element))
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
                grown.append(checked([*grown, *arguments])[-1])
                return None
            case ast.Attribute(ast.Name(module), name):
                called = _member(self._module(module), name)
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


def _module(name: str) -> Mapping[str, Any]:
    if name not in MODULES:
        raise CalculatorError(f"no module {name[:40]!r} here: only {' and '.join(MODULES)}")
    return MODULES[name]


def _member(module: Mapping[str, Any], name: str) -> Any:
    if name not in module:
        raise CalculatorError(f"no {name[:40]!r} in that module")
    return module[name]


def _words(node: ast.AST) -> str:
    return type(node).__name__


def _check_depth(tree: ast.AST) -> None:
    level: list[ast.AST] = [tree]
    for _ in range(DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise CalculatorError("the program is nested too deeply")
