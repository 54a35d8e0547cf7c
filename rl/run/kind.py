"""The kind of a run, by the command that began it: `run.json` in its directory, written once."""

import json
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args

from lora.files.atomic_write import write_atomic
from lora.files.ordinary_file import read_file
from lora.files.packed import parse_object

log = logging.getLogger(__name__)

Kind = Literal["train", "sft"]
FILE = "run.json"
VERSION = 1
"""Version of the file's format."""
MOST_BYTES = 2**16


def write_kind(directory: Path, kind: Kind) -> None:
    """Write down what the directory holds from now on."""
    content = {"kind": kind, "version": VERSION, "created": datetime.now(UTC).isoformat(timespec="seconds")}
    write_atomic(directory / FILE, (json.dumps(content) + "\n").encode())


def read_kind(directory: Path) -> Kind | None:
    """Return what `write_kind` wrote; None where there is no such file, or a damaged one, which the log says.

    Raises:
        ValueError: it is a kind of run that this version does not know.
    """
    try:
        kind = parse_object(read_file(directory / FILE, MOST_BYTES), FILE).get("kind")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read (%s): the run's metrics tell of what kind it is", directory / FILE, error)
        return None
    if not is_kind(kind):
        raise ValueError(f"{directory} holds a run of kind {kind!r}, which this version of rankone does not know")
    return kind


def guess_kind(rows: Iterable[Mapping[str, Any]]) -> Kind | None:
    """Return the kind of a run from before there was `run.json`, by its metrics; None if it has none yet."""
    metrics = list(rows)
    if not metrics:
        return None
    return "sft" if any("eval/log_loss" in row for row in metrics) else "train"


def is_kind(name: object) -> TypeGuard[Kind]:
    """Return True for the name of a kind of run."""
    return name in get_args(Kind)
