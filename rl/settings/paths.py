"""Dotted names of nested tables: `lora.rank` is the value `rank` in the table `lora`."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

Table = dict[str, Any]


def get(table: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """Return the value of a dotted name; `default` if it, or a table on the way to it, is not there."""
    value: Any = table
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return default
        value = cast("Mapping[str, Any]", value)[key]
    return value


def put(table: Table, name: str, value: Any) -> None:
    """Set the value of a dotted name in place; tables on the way are made.

    Raises:
        ValueError: a part of the name is a value, not a table.
    """
    *parents, leaf = name.split(".")
    for depth, parent in enumerate(parents, start=1):
        inner: Any = table.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ValueError(f"{'.'.join(parents[:depth])} is a value, not a table of them")
        table = cast("Table", inner)
    table[leaf] = value


def flatten(
    table: Mapping[str, Any], is_leaf: Callable[[str, Any], bool] = lambda name, value: False
) -> dict[str, Any]:
    """Return the values of all tables by their dotted names; a table for which `is_leaf` holds is a value itself."""
    return dict(_leaves(table, "", is_leaf))


def _leaves(table: Mapping[str, Any], prefix: str, is_leaf: Callable[[str, Any], bool]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and not is_leaf(name, value):
            yield from _leaves(cast("Mapping[str, Any]", value), f"{name}.", is_leaf)
        else:
            yield name, value
