"""The configuration as text: TOML and `--set` overrides to a `RunConfig`, and a `RunConfig` back to TOML.

Whatever is wrong with the text is one line that says where, what, and what to write instead. Nothing is ignored: a key
that does not exist stops the run, with the name that was probably meant. TOML has no null, so `"none"` stands for it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, cast, get_args

import tomlkit
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lora.files.ordinary_file import read_file
from lora.messages import shortened
from rl.config import Addition, RunConfig
from rl.settings import paths
from rl.settings.keys import Key, all_keys, dotted_name, find_key, hint
from rl.settings.toml_text import MOST_BYTES, MOST_DEPTH, NotToml, Table, parse_toml

NONE = "none"
MOST_PROBLEMS = 20
"""Most that are listed at once: in a file that is something else altogether, every line may be one."""
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
MOST_SHOWN = 120
"""Most letters of a name in a message."""

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "finite": "a finite number",
    "tuple": 'a list, such as ["a", "b"]',
    "dict": "a table",
    "model": "a table",
}
"""Expected values, by the first word of pydantic's error types."""


def load_config(path: str | PathLike[str] | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Return the configuration in a TOML file (without one, the defaults), changed by `a.b=value` overrides in order.

    Raises:
        ValueError: something is wrong; a line for each thing.
    """
    file = None if path is None else Path(path)
    return config_of({} if file is None else read_table(file), file, overrides)


def config_of(table: Table, path: Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Put the overrides into a table and validate it; `path` is its file. Raises ValueError as `load_config` does."""
    overridden = [_override(table, override) for override in overrides]
    _default_source(table)
    _read_literals(table)
    try:
        return RunConfig.model_validate(table)
    except ValidationError as error:
        lines = list(islice(_problems(error, table, path, overridden), MOST_PROBLEMS + 1))
        raise ValueError("\n".join(lines[:MOST_PROBLEMS] + ["and more"] * (len(lines) > MOST_PROBLEMS))) from None


def dump_config(config: RunConfig) -> str:
    """Return the configuration as TOML that `load_config` reads back to an equal one.

    Raises:
        ValueError: a value is the text "none", which would be read back as no value.
    """
    return tomlkit.dumps(_table(config, ""))


# --- reading ---


def read_table(path: Path) -> Table:
    """Read a TOML file's table. Raises ValueError, in one line, if there is none."""
    try:
        text = read_file(path, MOST_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"there is no configuration file {str(path)!r}") from None
    except OSError as error:
        raise ValueError(f"the configuration file {str(path)!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a TOML file: it is not UTF-8 text") from error
    return parse_toml(text.replace("\r\n", "\n").replace("\r", "\n"), str(path))


def _override(table: Table, override: str) -> str:
    """Put one `a.b=value` into the table, and return the key's name."""
    if not _is_text(override):
        raise ValueError(f"--set {_shown_text(override)} is not UTF-8 text")
    name, equals, text = override.partition("=")
    name = name.strip()
    parts = name.split(".")
    if not equals or not all(parts) or len(parts) > MOST_DEPTH:
        raise ValueError(f"--set takes KEY=VALUE, such as lora.rank=4, and got {_shown_text(override)}")
    value = _value(name, text)
    try:
        paths.put(table, name, value)
    except ValueError as error:
        raise ValueError(f"--set {_brief(override)}: {error}") from None
    return name


def _is_text(override: str) -> bool:
    """Return False where the terminal gave bytes that are no characters."""
    return override.encode(errors="ignore").decode() == override


def _value(name: str, text: str) -> Any:
    """Return the meaning of an override's text: TOML if it is that and the key is not text anyway, else itself."""
    try:
        parsed = parse_toml(f"value = {text}", f"--set {_brief(name)}")
    except NotToml:
        return text
    if set(parsed) != {"value"}:  # a line break smuggled in another key
        return text
    value = parsed["value"]
    wants_text = any(key.name == name and key.is_text for key in all_keys())
    return text if wants_text and not isinstance(value, str) else value


def _default_source(table: Table) -> None:
    """Give a `[data]` table, or one of several, that names no source the default one."""
    data: Any = table.get("data")
    for each in cast("list[Any]", data) if isinstance(data, list) else [data]:
        if isinstance(each, dict):
            cast("Table", each).setdefault("source", Addition().source)


def _read_literals(table: Table) -> None:
    """Replace what TOML and pydantic would misread: "none", and truth values in place of numbers."""
    for key in all_keys():
        leaf = key.name.rpartition(".")[2]
        for holder in _holders(table, key):
            value = holder.get(leaf)
            if key.nullable and value == NONE:
                holder[leaf] = None
            elif key.is_number and isinstance(value, bool):
                holder[leaf] = str(value).lower()  # pydantic would take true for 1


def _holders(table: Table, key: Key) -> Sequence[Table]:
    """Return the tables in which a key may stand, those in lists included."""
    holders: list[Any] = [table]
    for depth, parent in enumerate(key.name.split(".")[:-1]):
        inner = [holder.get(parent.removesuffix("[]")) for holder in holders]
        if parent.endswith("[]"):
            inner = [element for value in inner if isinstance(value, list) for element in cast("list[Any]", value)]
        holders = [value for value in inner if isinstance(value, dict)]
        if depth == 0 and key.source is not None:  # such keys are a source's, whose table names it
            holders = [holder for holder in holders if holder.get("source") == key.source]
    return holders


def _source(table: Table, name: str) -> str | None:
    """Return the source that a key of `[data]` is about, or of one of several."""
    data: Any = table.get("data", {"source": Addition().source})
    place = re.match(r"data\[(\d+)\]", name)
    if isinstance(data, list):
        data = cast("list[Any]", data)[int(place[1])] if place else None
    source: Any = cast("Table", data).get("source") if isinstance(data, dict) else None
    return source if isinstance(source, str) else None


# --- explaining ---


def _problems(error: ValidationError, table: Table, path: Path | None, overridden: Sequence[str]) -> Iterator[str]:
    """Yield lines for each place in which something is wrong."""
    by_name: dict[str, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        by_name.setdefault(dotted_name(detail["loc"]), []).append(detail)
    for name, details in by_name.items():
        for line in _explain(name, details, _source(table, name)):
            yield _origin(name, path, overridden) + line


def _origin(name: str, path: Path | None, overridden: Sequence[str]) -> str:
    parts = _parts(name)
    for key in map(_parts, overridden):
        if parts[: len(key)] == key or key[: len(parts)] == parts != [""]:
            return "--set: "
    return "" if path is None else f"{path}: "


def _parts(name: str) -> list[str]:
    return re.split(r"[.\[]", name)


def _explain(name: str, details: Sequence[ErrorDetails], source: str | None) -> Iterator[str]:
    first = details[0]
    match first["type"]:
        case "extra_forbidden":
            for key in _unknown(name, first["input"]):
                yield f"unknown key {_brief(key)}; {hint(key[:MOST_SHOWN], source)}"
        case "missing":
            needs = f'data.source = "{source}" needs it' if name.startswith(("data.", "data[")) else "it has no default"
            yield f"{_brief(name)} is missing; {needs}"
        case "value_error":
            yield str(first.get("ctx", {})["error"])
        case "union_tag_invalid" | "union_tag_not_found":
            sources = dict.fromkeys(f'"{key.source}"' for key in all_keys() if key.source)
            yield f"{name}.source must be {' or '.join(sources)}, and is {_shown(source)}"
        case _:
            expected = dict.fromkeys(_expected(name, detail, source) for detail in details)
            yield f"{_brief(name)} must be {' or '.join(expected)}, and is {_shown(first['input'])}"


def _unknown(name: str, value: Any) -> Iterator[str]:
    """The keys that an unknown name stands for: those of an unknown table are looked up one by one."""
    if not isinstance(value, dict) or not value:
        yield name
        return
    for key, inner in cast("Table", value).items():
        yield from _unknown(f"{name}.{key}", inner)


def _expected(name: str, detail: ErrorDetails, source: str | None) -> str:
    """Return the values that were expected, to follow "must be"."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind.startswith(("greater_than", "less_than")):
        return _range(name, source) or _bounds(context)
    if kind == "literal_error":
        return str(context["expected"]).replace("'", '"')
    if kind == "string_pattern_mismatch":
        return f"text of the form {context['pattern']}"
    if kind == "string_too_short":
        return "text that is not empty"
    if kind == "string_too_long":
        return f"text of at most {context['max_length']} letters"
    return _KINDS.get(kind.partition("_")[0], detail["msg"])


def _range(name: str, source: str | None) -> str:
    """Return the numbers that a key allows: `at least 1 and at most 9`."""
    key = find_key(name, source)
    limits = [] if key is None else key.field.metadata  # None: an entry of a table with names of its own
    return " and ".join(
        filter(None, (_bounds({word: getattr(limit, word, None) for word in BOUNDS}) for limit in limits))
    )


def _bounds(limits: Mapping[str, Any]) -> str:
    return " and ".join(
        f"{words} {limits[name]:.15g}" for name, words in BOUNDS.items() if limits.get(name) is not None
    )


def _brief(name: str) -> str:
    """Shorten a name, which may be of any length and any characters."""
    text = name if name.isprintable() else json.dumps(name)
    return shortened(text, MOST_SHOWN)


def _shown_text(text: str) -> str:
    return shortened(repr(text), MOST_SHOWN)


def _shown(value: Any, length: int = 60) -> str:
    return shortened(json.dumps(value, default=str, ensure_ascii=False), length)


# --- writing ---


def _table(model: BaseModel, prefix: str) -> Table:
    table: Table = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if value == NONE and type(None) in get_args(field.annotation):
            raise ValueError(f'{prefix}{name} cannot be the text "none", which stands for no value')
        if value is not None:
            table[name] = _plain(value, f"{prefix}{name}")
        elif field.default is not None:
            table[name] = NONE
    return table


def _plain(value: Any, name: str) -> Any:
    match value:
        case BaseModel():
            return _table(value, f"{name}.")
        case tuple() | list():
            return [_plain(element, name) for element in cast("Sequence[Any]", value)]
        case Mapping():
            return {key: _plain(element, name) for key, element in cast("Mapping[str, Any]", value).items()}
        case _:
            return value
