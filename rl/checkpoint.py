"""Checkpoints: atomic, with a checksum; a damaged one is passed over for the one before it."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

KEEP = 3
"""Older checkpoints are removed."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All steps before `step` are done; `state` is what `Learner.state` gave then."""

    step: int
    state: bytes


def save(directory: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint under its final name only when it is whole, then remove the oldest."""
    final = directory / f"step-{checkpoint.step:06d}"
    _save(final, checkpoint)
    for old in _all(directory)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def save_best(directory: Path, checkpoint: Checkpoint) -> Path:
    """Keep this one, whatever comes after it, in the place of the best one before it."""
    _save(directory / "best", checkpoint)
    return directory / "best"


def best(directory: Path) -> Checkpoint | None:
    """What `save_best` kept last, if it is whole."""
    return _read_whole(directory / "best") if (directory / "best").exists() else None


def newest(directory: Path) -> Checkpoint | None:
    """The newest whole checkpoint, if there is one."""
    whole = (_read_whole(candidate) for candidate in reversed(_all(directory)))
    return next((checkpoint for checkpoint in whole if checkpoint is not None), None)


def _save(final: Path, checkpoint: Checkpoint) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=final.parent, prefix=".writing-"))
    try:
        digest = hashlib.sha256(checkpoint.state).hexdigest()
        _write(scratch / "state.safetensors", checkpoint.state)
        _write(scratch / "checkpoint.json", json.dumps({"step": checkpoint.step, "sha256": digest}).encode())
        shutil.rmtree(final, ignore_errors=True)
        scratch.rename(final)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _read_whole(candidate: Path) -> Checkpoint | None:
    try:
        return _read(candidate)
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("passing over damaged checkpoint %s: %s", candidate, error)
        return None


def _read(candidate: Path) -> Checkpoint:
    about = json.loads((candidate / "checkpoint.json").read_text())
    state = (candidate / "state.safetensors").read_bytes()
    if hashlib.sha256(state).hexdigest() != about["sha256"]:
        raise ValueError("its checksum does not match")
    return Checkpoint(int(about["step"]), state)


def _all(directory: Path) -> list[Path]:
    return sorted(directory.glob("step-*"))


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
