"""Checkpoints: one file each, whole or absent, with a checksum; a damaged one is skipped for the one before."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from lora.files.atomic_write import write_atomic
from lora.files.ordinary_file import read_file
from lora.files.packed import parse_object

log = logging.getLogger(__name__)

KEEP = 3
"""Older checkpoints are removed."""
BEST = "best"
"""The file of the best one."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A point to go on from: the steps before `step` are done, and `state` is what `Learner.state` gave then.

    The place in the metrics file follows from the step; draws and seeds from it, from what was in flight, and `drawn`.
    """

    step: int
    state: bytes
    unlearned: tuple[int, ...] = ()
    """Numbers of the groups that had been begun, and not learned from yet (`rl.algorithm.sampling.in_flight`)."""
    drawn: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """State of the draws (`rl.algorithm.sampling.draws`): of JSON's kinds."""


def save(directory: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint, then remove the oldest. It has its name only once it is on the disk, whole."""
    final = _write(directory / file_name(checkpoint.step), checkpoint)
    for old in _all(directory)[:-KEEP]:
        old.unlink(missing_ok=True)
    return final


def file_name(step: int) -> str:
    """Return the name of that step's file."""
    return f"step-{step:06d}"


def save_best(directory: Path, checkpoint: Checkpoint) -> Path:
    """Keep this one, whatever comes after it, in the place of the best one before it."""
    return _write(directory / BEST, checkpoint)


def best(directory: Path) -> Checkpoint | None:
    """Return what `save_best` kept last, if it is whole."""
    return _read_whole(directory / BEST) if os.path.lexists(directory / BEST) else None


def newest(directory: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint; None if there is none at all.

    Raises:
        ValueError: there are checkpoints, and all of them are damaged.
    """
    candidates = _all(directory)
    for candidate in reversed(candidates):
        if (checkpoint := _read_whole(candidate)) is not None:
            return checkpoint
    if candidates:
        raise ValueError(
            f"none of the {len(candidates)} checkpoints in {directory} can be read; put back a copy of one to resume, "
            f"remove them all to do the run again from its first step, or choose another --out"
        )
    return None


def _write(final: Path, checkpoint: Checkpoint) -> Path:
    final.parent.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {"step": checkpoint.step, "bytes": len(checkpoint.state), "sha256": _digest(checkpoint)}
    if checkpoint.unlearned:
        about["unlearned"] = checkpoint.unlearned
    if checkpoint.drawn:
        about["drawn"] = checkpoint.drawn
    return write_atomic(final, json.dumps(about).encode() + b"\n" + checkpoint.state)


def _read_whole(candidate: Path) -> Checkpoint | None:
    try:
        return _read(candidate)
    except (OSError, ValueError) as error:
        log.warning("passing over damaged checkpoint %s: %s", candidate, error)
        return None


def _read(candidate: Path) -> Checkpoint:
    line, _, state = read_file(candidate).partition(b"\n")
    about = parse_object(line, "its first line")
    step = about.get("step")
    if not isinstance(step, int) or isinstance(step, bool):
        raise ValueError("its first line does not say its step")
    unlearned = about.get("unlearned", [])
    if not isinstance(unlearned, list):
        raise ValueError("its first line does not say what was in flight")
    drawn = about.get("drawn", {})
    if not isinstance(drawn, dict):
        raise ValueError("its first line does not say what was drawn")
    checkpoint = Checkpoint(step, state, tuple(cast("list[int]", unlearned)), cast("dict[str, Any]", drawn))
    if _digest(checkpoint) != about.get("sha256"):
        raise ValueError(f"its checksum does not match; it holds {len(state)} of {about.get('bytes')} bytes")
    return checkpoint


def _digest(checkpoint: Checkpoint) -> str:
    """Return a checksum of everything that is read back."""
    unlearned = f" {list(checkpoint.unlearned)}" if checkpoint.unlearned else ""
    drawn = f" {json.dumps(checkpoint.drawn, sort_keys=True)}" if checkpoint.drawn else ""
    digest = hashlib.sha256(f"{checkpoint.step}{unlearned}{drawn}\n".encode())
    digest.update(checkpoint.state)
    return digest.hexdigest()


def _all(directory: Path) -> list[Path]:
    """Return the files of checkpoints, the oldest first."""
    numbered = [(path.name.removeprefix("step-"), path) for path in directory.glob("step-*")]
    return [path for _, path in sorted((int(step), path) for step, path in numbered if step.isdecimal())]
