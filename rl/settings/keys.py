"""The names of a configuration, read off its classes: to say where a value belongs and what a wrong name means."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rl.config import RunConfig

_NUMBER = re.compile(r"\[\d+\]")

OTHER_WORDS = {
    "learning_rate": "lr",
    "batch_size": "problems_per_step",
    "num_generations": "group_size",
    "max_new_tokens": "max_tokens",
    "max_seq_length": "max_length",
    "max_steps": "num_steps",
    "lora_alpha": "alpha",
    "lora_rank": "rank",
    "r": "rank",
    "target_modules": "targets",
    "system_prompt": "system",
}
"""Other programs' names of keys, and ours."""


@dataclass(frozen=True, slots=True)
class Key:
    """One value that can be set, or a table of them.

    Example: ``Key("data.digits", field, source="addition", is_table=False)``
    """

    name: str
    field: FieldInfo
    source: str | None
    """The `data.source` it needs; None for keys that any run has."""
    is_table: bool

    @property
    def types(self) -> tuple[Any, ...]:
        """Return the types that its value may have."""
        return _alternatives(self.field.annotation)

    @property
    def nullable(self) -> bool:
        return NoneType in self.types

    @property
    def is_number(self) -> bool:
        return all(kind in (int, float) for kind in self.types if kind is not NoneType)

    @property
    def is_text(self) -> bool:
        return all(_is_text(kind) for kind in self.types if kind is not NoneType)


@cache
def all_keys() -> tuple[Key, ...]:
    """Return every key of a run's configuration, those of each data source included."""
    return tuple(_keys(RunConfig, "", None))


def find_key(name: str, source: str | None) -> Key | None:
    """Return the key of that name in a run with that `data.source`."""
    return next((key for key in all_keys() if key.name == _without_numbers(name) and _is_in(key, source)), None)


def dotted_name(loc: Sequence[str | int]) -> str:
    """Return the name that a configuration has for pydantic's `loc`: without its marks for members of unions."""
    name, kind = "", cast("Any", RunConfig)
    for part in loc:
        text, kind = _step(kind, part)
        name += text
    return name.removeprefix(".")


def hint(name: str, source: str | None) -> str:
    """Say what to write instead of a name that does not exist in a run with that `data.source`."""
    elsewhere = [key.source for key in all_keys() if key.name == _without_numbers(name) and key.source is not None]
    if elsewhere:
        sources = " or ".join(f'"{key_source}"' for key_source in elsewhere)
        return f'it belongs to data.source = {sources}, and the source here is "{source}"'
    near = _nearest(name, source)
    if near:
        return f"did you mean {' or '.join(near)}?"
    table = name.rpartition(".")[0]
    siblings = [key.name for key in all_keys() if key.name.rpartition(".")[0] == table and _is_in(key, source)]
    return f"the keys here are {', '.join(siblings)}" if siblings else "rankone has no such table"


def _nearest(name: str, source: str | None) -> list[str]:
    names = {key.name for key in all_keys() if _is_in(key, source)}
    scores = {candidate: _likeness(_without_numbers(name), candidate) for candidate in names}
    best = max(scores.values())
    if best < 0.69:  # the same word in a table of an altogether different name scores 0.7
        return []
    close = {candidate for candidate in names if scores[candidate] > best - 0.1}
    alike = {candidate for candidate in close if ("[]" in candidate) == ("[" in name)}  # one of several tables, or not
    close = alike or close
    same_word = {candidate for candidate in close if candidate.rpartition(".")[2] in _words(name)}
    return sorted(same_word or close, key=lambda candidate: (-scores[candidate], candidate))[:3]


def _likeness(name: str, candidate: str) -> float:
    """Return how alike two dotted names are, 0 to 1. The last word counts for more: most slips are in the table."""
    table, _, leaf = candidate.rpartition(".")
    likest_word = max(_ratio(word, leaf) for word in _words(name))
    return 0.3 * _ratio(name.rpartition(".")[0], table) + 0.7 * likest_word


def _words(name: str) -> set[str]:
    leaf = name.rpartition(".")[2]
    return {leaf, OTHER_WORDS.get(leaf, leaf)}


def _ratio(a: str, b: str) -> float:
    return 1.0 if a == b else SequenceMatcher(None, a, b, autojunk=False).ratio()


def _keys(model: type[BaseModel], prefix: str, source: str | None) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        tables = [kind for kind in _alternatives(field.annotation) if _is_table(kind)]
        yield Key(prefix + name, field, source, is_table=bool(tables))
        for table in tables:
            yield from _keys(table, f"{prefix}{name}.", _tag(table) or source)
        for table in filter(_is_table, _alternatives(_element(field.annotation))):
            yield from _keys(table, f"{prefix}{name}[].", _tag(table) or source)


def _step(kind: Any, part: str | int) -> tuple[str, Any]:
    """Follow one part of pydantic's path through a value of type `kind`: its text, and the type behind it."""
    if isinstance(part, int):
        return f"[{part}]", _element(kind)
    if _is_table(kind):
        field = cast("type[BaseModel]", kind).model_fields.get(part)
        return f".{part}", None if field is None else field.annotation
    tables = [*filter(_is_table, _alternatives(kind))]
    for table in tables:
        if _tag(table) == part:
            return "", table
    if len(tables) == 1 and _tag(tables[0]) is None:  # a table that need not be there
        return _step(tables[0], part)
    if get_origin(kind) is dict:
        return f".{part}", get_args(kind)[1]
    return ("", kind) if kind is not None else (f".{part}", None)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the types that a value may have, those of a union within a union too."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(kind for part in get_args(annotation) for kind in _alternatives(part))
    return (annotation,)


def _element(annotation: Any) -> Any:
    """Return the type of a list's elements, where `annotation` is a list, or may be one."""
    lists = (kind for kind in _alternatives(annotation) if get_origin(kind) in (tuple, list))
    return next((get_args(kind)[0] for kind in lists), None)


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_text(kind: Any) -> bool:
    return kind is str or (get_origin(kind) is Literal and all(isinstance(value, str) for value in get_args(kind)))


def _tag(table: type[BaseModel]) -> str | None:
    source = table.model_fields.get("source")
    return None if source is None else get_args(source.annotation)[0]


def _is_in(key: Key, source: str | None) -> bool:
    return key.source is None or key.source == source


def _without_numbers(name: str) -> str:
    """`prompt.shots[3].question` as the keys have it: `prompt.shots[].question`."""
    return _NUMBER.sub("[]", name)
