"""Paths of saved weights: tinker://RUN/weights/NAME, and the same with sampler_weights and external_weights."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

SCHEME = "tinker://"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}")
Kind = Literal["weights", "sampler_weights", "external_weights"]
TYPES: dict[str, str] = {"weights": "training", "sampler_weights": "sampler", "external_weights": "external"}


@dataclass(frozen=True, slots=True)
class TinkerPath:
    """The name of saved weights."""

    run: str
    kind: Kind
    name: str

    @property
    def checkpoint_id(self) -> str:
        """The path's part behind the run."""
        return f"{self.kind}/{self.name}"

    def __str__(self) -> str:
        return f"{SCHEME}{self.run}/{self.kind}/{self.name}"


def parse_path(text: str) -> TinkerPath:
    """Read a path. Raises ValueError if it is none."""
    parts = text.removeprefix(SCHEME).split("/")
    if not text.startswith(SCHEME) or len(parts) != 3 or not all(parts):
        raise ValueError(f"{text[:300]!r} is no path of saved weights: give tinker://RUN/weights/NAME")
    return TinkerPath(parts[0], checked_kind(parts[1]), checked_name(parts[2]))


def checked_kind(text: str) -> Kind:
    """Return the kind of that name. Raises ValueError if there is none."""
    kinds: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
    if text not in kinds:
        raise ValueError(f"{text[:100]!r} is no kind of saved weights: it must be one of {', '.join(kinds)}")
    return kinds[text]


def checked_name(name: str) -> str:
    """Return the name. Raises ValueError if a checkpoint cannot have it."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name[:100]!r} is no name for a checkpoint: use at most 255 letters, digits and '._-', beginning "
            "with a letter, a digit or '_'"
        )
    return name
