"""The names in a data set's tests: which of them are the program's, and which it has no part in."""

import ast
import builtins
import collections
import decimal
import fractions
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

TRUSTED: dict[str, Any] = {
    "isclose": math.isclose, "Counter": collections.Counter, "deque": collections.deque,
    "defaultdict": collections.defaultdict, "OrderedDict": collections.OrderedDict,
    "Decimal": decimal.Decimal, "Fraction": fractions.Fraction,
}  # fmt: skip
"""Names that tests compare with, which are never the program's."""
_NOBODYS = frozenset(("np", "numpy", "pd", "pandas", "torch", "pytest", "approx", "allclose", "unittest"))
"""Names that tests expect of libraries which are not there; a program may not stand in for them."""


def names_in(codes: Sequence[str]) -> set[str]:
    """Return the names that code reads or sets."""
    return {node.id for node in _nodes(codes) if isinstance(node, ast.Name)}


def modules_in(codes: Sequence[str]) -> set[str]:
    """Return the names of Python's own modules that code reads from: ``math`` in ``math.pi``."""
    owners = {n.value.id for n in _nodes(codes) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}
    return owners & set(sys.stdlib_module_names)


def names_of_program(codes: Sequence[str]) -> set[str]:
    """Return the names that are the program's, if it has them. Raises ValueError where none can be.

    One of Python's own is so where tests call nothing else: MBPP has a task whose function is called ``sum``.
    """
    names = names_in(codes) - modules_in(codes) - set(TRUSTED) - _NOBODYS
    others = {name for name in names if not hasattr(builtins, name)}
    if others - _set_in(codes):
        return others
    called = {node.func.id for node in _nodes(codes) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    shadows = called & names - others
    if len(shadows) != 1:
        raise ValueError(
            f"the tests call no function of a program's, but of Python's: {', '.join(sorted(called)) or '-'}"
        )
    return others | shadows


def _set_in(codes: Sequence[str]) -> set[str]:
    """Return the names that tests give a value themselves, by assignment, a loop, a definition or an import."""
    nodes = [*_nodes(codes)]
    stored = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    defined = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    given = {n.arg for n in nodes if isinstance(n, ast.arg)}
    imported = {(n.asname or n.name).partition(".")[0] for n in nodes if isinstance(n, ast.alias)}
    return stored | defined | given | imported


def _nodes(codes: Sequence[str]) -> Iterable[ast.AST]:
    return (node for code in codes for node in ast.walk(ast.parse(code)))
