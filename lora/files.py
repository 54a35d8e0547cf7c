"""An adapter as bytes and as a PEFT directory (`adapter_model.safetensors` and `adapter_config.json`), both ways.

A policy that is all of a model's weights has rank 0 and is no PEFT adapter: its directory holds `WHOLE` alone.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from lora.durable import sync, write_file
from lora.experts import PROJECTIONS
from lora.types import Adapter

PREFIX = "base_model.model."
"""PEFT puts it before a module's name."""
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
WHOLE = "policy.safetensors"
EXPERT_WEIGHTS = ("experts.gate_up_proj", "experts.down_proj")
"""What PEFT calls the stacked weights of a layer's experts."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a reader of an adapter must know besides its tensors."""

    base_model: str
    rank: int
    alpha: float
    targets: tuple[str, ...]
    expert_rank: int | None = None
    """Of the adapters on experts, if there are any."""

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
    def from_peft(cls, config: Mapping[str, Any]) -> "Description":
        """Raises ValueError for an adapter that is not plain LoRA."""
        for key, plain in (("use_dora", False), ("use_rslora", False), ("modules_to_save", None), ("bias", "none")):
            if config.get(key) not in (plain, None):
                raise ValueError(f"the adapter has {key} = {config[key]!r}; only plain LoRA can be read")
        if config.get("peft_type") != "LORA" or config.get("alpha_pattern"):
            raise ValueError("the adapter is not plain LoRA with one rank and one alpha")
        targets, rank = config["target_modules"], int(config["r"])
        names = (targets,) if isinstance(targets, str) else tuple(sorted(targets))
        of_experts = _expert_rank(config.get("rank_pattern") or {}, config.get("target_parameters") or (), rank)
        names += PROJECTIONS if of_experts is not None else ()
        base_model = config.get("base_model_name_or_path") or ""
        return cls(base_model, rank, float(config["lora_alpha"]), names, of_experts)


def pack(tensors: Mapping[str, Tensor], description: Description) -> bytes:
    """A safetensors file in PEFT's names, with the description in its header; the same bytes for the same adapter.

    `tensors` are named as `LoraLayers.tensors` names them.
    """
    peft = {f"{PREFIX}{name}.weight": tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    payload = safetensors.torch.save(peft, metadata={"format": "pt", "adapter": json.dumps(asdict(description))})
    return _with_sorted_header(payload)


def unpack(payload: bytes) -> tuple[dict[str, Tensor], Description]:
    """The inverse of `pack`."""
    length = int.from_bytes(payload[:8], "little")
    fields: dict[str, Any] = json.loads(json.loads(payload[8 : 8 + length])["__metadata__"]["adapter"])
    fields["targets"] = tuple(fields["targets"])
    description = Description(**fields)
    return _from_peft_names(safetensors.torch.load(payload)), description


def write_peft(adapter: Adapter, directory: Path) -> Path:
    """Write a PEFT directory under its final name only when it is whole; one that is there already is replaced.

    Where an adapter of the same shape is there, as in a run, the new one takes its place in one step: a kill leaves one
    or the other.
    """
    _, description = unpack(adapter.payload)
    config = json.dumps(description.to_peft(), indent=2).encode()
    if _holds(directory, config):
        write_file(directory / WEIGHTS, adapter.payload)
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}-"))
    try:
        scratch.chmod(0o755)
        if description.rank == 0:
            write_file(scratch / WHOLE, adapter.payload)
        else:
            write_file(scratch / WEIGHTS, adapter.payload)
            write_file(scratch / CONFIG, config)
        _replace(scratch, directory)
        sync(directory.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return directory


def read_peft(directory: Path, *, run: str | None = None, version: int = 0) -> Adapter:
    """An adapter from a PEFT directory, ours or another tool's, or a policy of all weights that we wrote.

    Raises:
        ValueError: the directory holds no plain LoRA adapter.
    """
    if (whole := directory / WHOLE).is_file():
        return Adapter(run or directory.resolve().name, version, whole.read_bytes())
    weights, config = directory / WEIGHTS, directory / CONFIG
    for file in (weights, config):
        if not file.is_file():
            raise ValueError(f"{directory} is no PEFT adapter: it has no {file.name}")
    try:
        tensors = _from_peft_names(safetensors.torch.load(weights.read_bytes()))
        description = Description.from_peft(json.loads(config.read_text()))
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{directory} is a damaged adapter: {error}") from None
    return Adapter(run or directory.resolve().name, version, pack(tensors, description))


def _expert_rank(ranks: Mapping[str, int], parameters: Sequence[str], rank: int) -> int | None:
    """Of an adapter's experts, which alone may have a rank of their own. Raises ValueError where others have."""
    weights = {name.rpartition(".")[2] for name in EXPERT_WEIGHTS}
    found = {int(ranks.get(name, rank)) for name in parameters}
    if not all(name.rpartition(".")[2] in weights for name in (*ranks, *parameters)) or len(found) > 1:
        raise ValueError("the adapter is not plain LoRA with one rank and one alpha, and one rank for experts")
    return found.pop() if found else None


def _with_sorted_header(payload: bytes) -> bytes:
    """safetensors writes its metadata in another order every time, and an adapter is named by its bytes."""
    end = 8 + int.from_bytes(payload[:8], "little")
    header = json.dumps(json.loads(payload[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of 8
    return len(header).to_bytes(8, "little") + header + payload[end:]


def _from_peft_names(peft: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(PREFIX).removesuffix(".weight"): tensor for name, tensor in peft.items()}


def _holds(directory: Path, config: bytes) -> bool:
    """Whether it is a PEFT directory with that description, so that its weights are all there is to change."""
    try:
        return (directory / WEIGHTS).is_file() and (directory / CONFIG).read_bytes() == config
    except OSError:
        return False


def _replace(scratch: Path, directory: Path) -> None:
    """A directory cannot be renamed onto another: move the old one aside first, so that no moment shows half of one."""
    if directory.exists():
        old = directory.with_name(f".{directory.name}-{os.getpid()}-old")
        directory.rename(old)
        scratch.rename(directory)
        shutil.rmtree(old, ignore_errors=True)
    else:
        scratch.rename(directory)
