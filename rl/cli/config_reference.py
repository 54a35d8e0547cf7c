"""The configuration reference, `docs/configuration.md`, made from the configuration classes themselves.

`python -m rl.cli.config_reference` prints it. A test compares the file with what this prints, so it cannot fall behind.
"""

import json
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rewards.config import RewardConfig
from rl.config import Mixed, RunConfig
from rl.sweep.config import SweepConfig

HEADER = """# Configuration

Every key that a run or a sweep knows, with its type, default and meaning. A configuration is a TOML file, and any key
can be overridden on the command line by its full name: `--set learner.lr=1e-4`. Unknown keys are refused, with the name
that was probably meant. `config.toml` in a run's directory is the resolved configuration, with every default written
out.

This page is generated (`make docs`); its words are the docstrings of the configuration classes.
"""
BOUNDS = {Ge: ">=", Gt: ">", Le: "<=", Lt: "<"}


def reference() -> str:
    """Return the whole page, in Markdown."""
    run = [line for name, model in tables(RunConfig) for line in section(name, model)]
    sweep = [line for name, model in tables(SweepConfig) for line in section(name, model)]
    heading = "# Sweeps\n\nA sweep's own file, for `rankone sweep`; the keys of `base` are those of a run."
    return "\n".join([HEADER, *run, heading, "", *sweep]).rstrip() + "\n"


def tables(model: type[BaseModel], name: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield each table of a configuration with its dotted name, the outermost first."""
    yield name, model
    for key, field in model.model_fields.items():
        for nested, is_list in _nested(field.annotation):
            inner = f"{name}.{key}" if name else key
            if issubclass(nested, Mixed):  # its other keys are those of the same source alone
                continue
            yield from tables(nested, f"[{inner}]" if is_list else inner)
        if key == "data":
            yield "[data]", Mixed


def section(name: str, model: type[BaseModel]) -> list[str]:
    """Return the lines of one table: its heading, what it is for, and a row for each key."""
    source = model.model_fields.get("source")
    chosen = f' with `source = "{get_args(source.annotation)[0]}"`' if source else ""
    shown = [(k, field) for k, field in model.model_fields.items() if model is Mixed or not _nested(field.annotation)]
    heading = f"## `[{name}]`{chosen}" if name else "## Top level"
    about = " ".join((model.__doc__ or "").split())
    if not shown:
        return [heading, "", about, ""]
    rows = [f"| `{key}` | {_type(field)} | {_default(field)} | {_meaning(field)} |" for key, field in shown]
    return [heading, "", about, "", "| key | type | default | meaning |", "|---|---|---|---|", *rows, ""]


def _nested(annotation: Any) -> list[tuple[type[BaseModel], bool]]:
    """Return the tables that a value of this type may be, each with whether it is a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(annotation, False)]
    if get_origin(annotation) is tuple:
        return [(model, True) for part in get_args(annotation) for model, _ in _nested(part)]
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return [table for part in get_args(annotation) for table in _nested(part)]
    return []


def _type(field: FieldInfo) -> str:
    limits = [f"{BOUNDS[type(bound)]} {_bound(bound):g}" for bound in field.metadata if type(bound) in BOUNDS]
    return ", ".join([_type_name(field.annotation), *limits]).replace("|", "\\|")


def _bound(bound: Any) -> float:
    return next(getattr(bound, name) for name in ("ge", "gt", "le", "lt") if hasattr(bound, name))


def _type_name(annotation: Any) -> str:
    """Return a type as TOML's readers would say it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(f"`{json.dumps(value)}`" for value in arguments)
    if origin is Annotated:
        return _type_name(arguments[0])
    if origin in (Union, UnionType):
        return " | ".join(_type_name(part) for part in arguments if part is not NoneType)
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return f"table of {_type_name(arguments[1])}"
    if annotation is RewardConfig:
        return "table, as `[reward]`"
    names = {str: "text", int: "integer", float: "number", bool: "boolean", Any: "anything"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "not set"
    return f"`{json.dumps(list(cast('Sequence[Any]', value)) if isinstance(value, tuple) else value)}`"


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
