"""An adapter as bytes and as a PEFT directory (`adapter_model.safetensors` and `adapter_config.json`), both ways.

A policy that is all of a model's weights has rank 0 and is no PEFT adapter: its directory holds `WHOLE` alone.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from lora.files.atomic_write import sync, with_filename, write_atomic
from lora.files.ordinary_file import NotOrdinary, read_file
from lora.files.packed import load_tensors, pack_tensors, parse_object, unpack_tensors
from lora.peft.config import as_plain
from lora.peft.description import Description
from lora.types import Adapter

PREFIX = "base_model.model."
"""PEFT puts it before a module's name."""
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
WHOLE = "policy.safetensors"
MOST_CONFIG_BYTES = 2**24


def pack(tensors: Mapping[str, Tensor], description: Description) -> bytes:
    """A safetensors file in PEFT's names, with the description in its header; the same bytes for the same adapter.

    `tensors` are named as `LoraLayers.tensors` names them.
    """
    peft = {f"{PREFIX}{name}.weight": tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    return pack_tensors(peft, "adapter", asdict(description))


def unpack(payload: bytes) -> tuple[dict[str, Tensor], Description]:
    """The inverse of `pack`. Raises ValueError for what `pack` did not write."""
    tensors, facts = unpack_tensors(payload, "adapter")
    return _from_peft_names(tensors), Description.from_facts(facts)


def write_peft(adapter: Adapter, directory: Path) -> Path:
    """Write a PEFT directory under its final name only when it is whole; one that is there already is replaced.

    Where an adapter of the same shape is there, or a policy of all weights in place of one, as in a run, the new one
    takes its place in one step: a kill leaves one or the other.
    """
    config = _config(adapter)
    if _holds(directory, config):
        write_atomic(directory / (WHOLE if config is None else WEIGHTS), adapter.payload)
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}-"))
    try:
        scratch.chmod(0o755)
        write_files(adapter, scratch)
        _replace(scratch, directory)
        sync(directory.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return directory


def write_files(adapter: Adapter, directory: Path) -> None:
    """Write the files of a PEFT directory, or the one of a policy of all weights, into a directory that is there."""
    for name, content in peft_files(adapter).items():
        write_atomic(directory / name, content)


def peft_files(adapter: Adapter) -> dict[str, bytes]:
    """Return the files of a PEFT directory, or the one of a policy of all weights, by their names."""
    config = _config(adapter)
    return {WHOLE: adapter.payload} if config is None else {WEIGHTS: adapter.payload, CONFIG: config}


def _config(adapter: Adapter) -> bytes | None:
    """PEFT's configuration file; None for a policy of all weights."""
    _, description = unpack(adapter.payload)
    return json.dumps(description.to_peft(), indent=2).encode() if description.rank else None


def read_peft(directory: Path, *, run: str | None = None, version: int = 0) -> Adapter:
    """An adapter from a PEFT directory, ours or another tool's, or a policy of all weights that we wrote.

    Raises:
        ValueError: the directory holds no plain LoRA adapter.
    """
    try:
        payload = _read_whole(directory) if os.path.lexists(directory / WHOLE) else _read_adapter(directory)
    except FileNotFoundError as error:
        raise ValueError(f"{directory} is no PEFT adapter: it has no {Path(error.filename).name}") from None
    except NotOrdinary as error:
        raise ValueError(f"{error.filename} cannot be read as an adapter's: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{directory} is a damaged adapter: {error}") from None
    return Adapter(run or directory.resolve().name, version, payload)


def _read_whole(directory: Path) -> bytes:
    payload = _read(directory / WHOLE)
    check_finite(unpack(payload)[0])
    return payload


def _read_adapter(directory: Path) -> bytes:
    weights = _read(directory / WEIGHTS)
    config = parse_object(_read(directory / CONFIG, MOST_CONFIG_BYTES), CONFIG)
    tensors = _from_peft_names(load_tensors(weights))
    check_finite(tensors)
    return pack(*as_plain(tensors, config))


def _read(file: Path, most_bytes: int | None = None) -> bytes:
    with with_filename(file):
        return read_file(file, most_bytes)


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """See that they are numbers to compute with. Raises ValueError for NaN, infinity and whole numbers."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{name} holds {str(tensor.dtype).removeprefix('torch.')}, not floating-point numbers")
        if not torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor).all():
            raise ValueError(f"{name} holds numbers that are infinite or NaN, as after a run that diverged")


def _from_peft_names(peft: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(PREFIX).removesuffix(".weight"): tensor for name, tensor in peft.items()}


def _holds(directory: Path, config: bytes | None) -> bool:
    """Return True for a PEFT directory with that description, or with None for one of a policy of all weights: only the
    weights need writing there."""
    try:
        if config is None or (directory / WHOLE).exists():
            return config is None and (directory / WHOLE).is_file()
        return (directory / WEIGHTS).is_file() and read_file(directory / CONFIG) == config
    except OSError:
        return False


def _replace(scratch: Path, directory: Path) -> None:
    """A directory cannot be renamed onto another: move the old one aside first, so that no moment shows half of one."""
    if os.path.lexists(directory):
        old = directory.with_name(f".{directory.name}-{os.getpid()}-old")
        directory.rename(old)
        scratch.rename(directory)
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)
    else:
        scratch.rename(directory)
