"""A calculator that reads Python: an interpreter of a small part of the language that can reach nothing but numbers.

Nothing is compiled or executed. A text is parsed into a tree, and each node of the kinds here and in
`rl.episodes.calculator.expressions` is computed there. Any other kind is an error, so there are no attributes, no
imports and no functions but those listed. Every size has a bound that is looked at before the work is done: steps,
seconds, bits of numbers, lengths of texts and lists, output.
"""

import ast
from collections.abc import Sequence
from typing import Any

from rl.episodes.calculator.expressions import Expressions, member, module_named, words
from rl.episodes.calculator.numbers import CalculatorError, shown

MOST_SOURCE = 4000
"""Characters of a program."""
MOST_OUTPUT = 2000
"""Characters of what a program prints."""
DEPTH = 50
"""Levels of a tree."""


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


class _Program(Expressions):
    """A program's statements and its output."""

    def __init__(self) -> None:
        super().__init__()
        self._names["print"] = self._print
        self._output: list[str] = []

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
                    self._names[alias.asname or alias.name] = module_named(alias.name)
            case ast.ImportFrom(str(name), aliases, 0):
                for alias in aliases:
                    self._names[alias.asname or alias.name] = member(module_named(name), alias.name)
            case ast.Pass():
                pass
            case _:
                raise CalculatorError(f"{words(node)} is not there: this is a calculator")
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


def _check_depth(tree: ast.AST) -> None:
    level: list[ast.AST] = [tree]
    for _ in range(DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise CalculatorError("the program is nested too deeply")
