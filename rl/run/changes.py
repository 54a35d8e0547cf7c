"""The differences between the settings of a run that is resumed and those it had before."""

import json
from collections.abc import Mapping
from typing import Any

from rl.config import RunConfig
from rl.settings import paths

Changes = Mapping[str, tuple[str, str]]
"""Settings by their dotted names: what each was, and what it is, as JSON."""

FIXED = ("model.name", "model.quantization", "lora.", "learner.weights")
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
    pairs = {name: (before.get(name, "not there"), after.get(name, "not there")) for name in names}
    return {name: values for name, values in pairs.items() if values[0] != values[1]}


def _flat(table: Mapping[str, Any]) -> dict[str, str]:
    """Return the values as JSON, by their dotted names."""
    return {name: json.dumps(value) for name, value in paths.flatten(table).items()}
