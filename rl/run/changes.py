"""In what the settings of a run that is resumed differ from before."""

import json
from collections.abc import Mapping
from typing import Any, cast

from rl.config import RunConfig

Changes = Mapping[str, tuple[str, str]]
"""Settings by their dotted names: what each was, and what it is, as JSON."""

FIXED = ("model.name", "lora.")
"""Settings that say which policy a checkpoint is."""


def is_fixed(name: str) -> bool:
    """Return True for a setting that a run may not change while it goes on."""
    return name.startswith(FIXED)


def in_words(changes: Changes) -> list[str]:
    """Return a line for each."""
    return [f"{name} is {new} from now on, and was {old}" for name, (old, new) in changes.items()]


def changes_between(old: RunConfig, new: RunConfig) -> Changes:
    """Return the settings that differ, by their dotted names."""
    before, after = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    names = dict.fromkeys((*before, *after))
    found = {name: (before.get(name, "not there"), after.get(name, "not there")) for name in names}
    return {name: values for name, values in found.items() if values[0] != values[1]}


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the values as JSON, by their dotted names."""
    found: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found |= _flat(cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = json.dumps(value)
    return found
