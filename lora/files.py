"""An adapter as bytes and as a PEFT directory (`adapter_model.safetensors` and `adapter_config.json`), both ways.

A policy that is all of a model's weights has rank 0 and is no PEFT adapter: its directory holds `WHOLE` alone.
"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from lora.atomic_write import sync, with_filename, write_atomic
from lora.config import MOST_ALPHA, MOST_RANK
from lora.experts import EXPERT_LAYERS, PROJECTIONS
from lora.ordinary_file import NotOrdinary, read_file
from lora.packed import load_tensors, pack_tensors, parse_object, unpack_tensors
from lora.types import Adapter

PREFIX = "base_model.model."
"""PEFT puts it before a module's name."""
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
WHOLE = "policy.safetensors"
MOST_CONFIG_BYTES = 2**24
EXPERT_WEIGHTS = ("experts.gate_up_proj", "experts.down_proj")
"""PEFT's names for the stacked weights of a layer's experts."""


@dataclass(frozen=True, slots=True)
class Description:
    """The facts that a reader of an adapter must know besides its tensors."""

    base_model: str
    rank: int
    alpha: float
    targets: tuple[str, ...]
    expert_rank: int | None = None
    """Rank of the adapters on experts, if there are any."""

    def to_peft(self) -> dict[str, Any]:
        """PEFT's `adapter_config.json`."""
        modules, experts = self.targets, dict[str, Any]()
        if self.expert_rank is not None:
            # PEFT takes a module's name of these for an adapter of a time when experts were modules.
            modules = tuple(target for target in self.targets if target not in PROJECTIONS)
            ranks = dict.fromkeys(EXPERT_WEIGHTS, self.expert_rank)
            experts = {"target_parameters": list(EXPERT_WEIGHTS), "rank_pattern": ranks}
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base_model,
            "r": self.rank,
            "lora_alpha": self.alpha if self.alpha % 1 else int(self.alpha),
            "target_modules": list(modules),
            "lora_dropout": 0.0,
            "bias": "none",
            "inference_mode": True,
            "use_rslora": False,
            **experts,
        }

    @classmethod
    def from_peft(cls, config: Mapping[str, Any], tensors: Iterable[str] = ()) -> "Description":
        """Read PEFT's `adapter_config.json`, and the layers off the names of the adapter's `tensors`, if there are any.

        PEFT's `target_modules` may be names, a regular expression, or "all-linear". An adapter of rank-stabilised LoRA
        (Kalajdzievski 2023), whose scale is alpha / sqrt(rank), gets the alpha that makes ours the same.

        Raises:
            ValueError: the adapter is not plain LoRA.
        """
        for key, plain in (("use_dora", False), ("modules_to_save", None), ("bias", "none")):
            if config.get(key) not in (plain, None):
                raise ValueError(f"the adapter has {key} = {config[key]!r}; only plain LoRA can be read")
        if config.get("peft_type") != "LORA" or config.get("alpha_pattern"):
            raise ValueError("the adapter is not plain LoRA with one rank and one alpha")
        rank, alpha = config.get("r"), config.get("lora_alpha")
        if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= MOST_RANK:
            raise ValueError(f"the adapter's r must be a whole number from 1 to {MOST_RANK}, and is {rank!r}")
        if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha <= MOST_ALPHA:
            raise ValueError(f"the adapter's lora_alpha must be above 0 and at most {MOST_ALPHA:g}, and is {alpha!r}")
        of_experts = _expert_rank(config.get("rank_pattern") or {}, config.get("target_parameters") or (), rank)
        if config.get("use_rslora"):
            alpha = _plain_alpha(alpha, rank, of_experts)
        names = _targets(config.get("target_modules"), tensors, has_experts=of_experts is not None)
        base_model = config.get("base_model_name_or_path") or ""
        if not isinstance(base_model, str):
            raise ValueError(f"the adapter's base_model_name_or_path must be text, and is {base_model!r}")
        return cls(base_model, rank, float(alpha), names, of_experts)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "Description":
        """Read back from JSON what `asdict` gave. Raises ValueError if it is something else."""
        named = {name: facts.get(name) for name in ("base_model", "rank", "alpha", "targets", "expert_rank")}
        kinds = {"base_model": str, "rank": int, "alpha": int | float, "targets": list, "expert_rank": int | None}
        wrong = [name for name, kind in kinds.items() if not isinstance(named[name], kind)]
        if wrong or not all(isinstance(target, str) for target in facts["targets"]):
            raise ValueError(f"its header does not say the adapter's {' and '.join(wrong) or 'targets'}")
        return cls(**{**named, "targets": tuple(facts["targets"])})  # pyright: ignore[reportArgumentType]


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

    Where an adapter of the same shape is there, as in a run, the new one takes its place in one step: a kill leaves one
    or the other.
    """
    if _holds(directory, _config(adapter)):
        write_atomic(directory / WEIGHTS, adapter.payload)
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
    description = Description.from_peft(config, tensors)
    check_finite(tensors)
    for name, tensor in tensors.items():
        if name.endswith(".lora_A") and "experts" not in name and tensor.shape[:1] != (description.rank,):
            raise ValueError(f"{name} has shape {list(tensor.shape)}, which is not of rank {description.rank}")
    return pack(tensors, description)


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


def _plain_alpha(alpha: float, rank: int, expert_rank: int | None) -> float:
    """Return the alpha of plain LoRA with the scale of the rank-stabilised one. Raises ValueError if there is none."""
    if expert_rank not in (None, rank):
        raise ValueError("the adapter is not plain LoRA: its use_rslora gives experts of another rank another alpha")
    if alpha * math.sqrt(rank) > MOST_ALPHA:
        raise ValueError(f"the adapter's lora_alpha times the root of its r must be at most {MOST_ALPHA:g}")
    return alpha * math.sqrt(rank)


def _targets(modules: object, tensors: Iterable[str], *, has_experts: bool) -> tuple[str, ...]:
    """Return the names of the layers that `tensors` are of, or else those in PEFT's `target_modules`.

    Raises:
        ValueError: `target_modules` is not of the kinds that PEFT writes.
    """
    names = [modules] if isinstance(modules, str) else modules or []
    is_known = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_known or not (names or has_experts):
        raise ValueError(f"the adapter's target_modules must be names of layers, and is {modules!r}")
    adapted = {name.removesuffix(".lora_A").rpartition(".")[2] for name in tensors if name.endswith(".lora_A")}
    adapted = adapted or {*cast("list[str]", names)}
    return (*sorted(adapted - {*EXPERT_LAYERS, *PROJECTIONS}), *PROJECTIONS) if has_experts else (*sorted(adapted),)


def _expert_rank(ranks: Mapping[str, int], parameters: Sequence[str], rank: int) -> int | None:
    """Return the rank of an adapter's experts, which alone may have one of their own.

    Raises:
        ValueError: other layers have a rank of their own, or experts have several.
    """
    weights = {name.rpartition(".")[2] for name in EXPERT_WEIGHTS}
    expert_ranks = {int(ranks.get(name, rank)) for name in parameters}
    if not all(name.rpartition(".")[2] in weights for name in (*ranks, *parameters)) or len(expert_ranks) > 1:
        raise ValueError("the adapter is not plain LoRA with one rank and one alpha, and one rank for experts")
    return expert_ranks.pop() if expert_ranks else None


def _from_peft_names(peft: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(PREFIX).removesuffix(".weight"): tensor for name, tensor in peft.items()}


def _holds(directory: Path, config: bytes | None) -> bool:
    """Return True for a PEFT directory with that description, so that only its weights need writing."""
    try:
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
