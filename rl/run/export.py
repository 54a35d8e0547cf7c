"""An adapter out of a run: as a PEFT directory, or merged into the base model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lora.base.dtype import torch_dtype
from lora.base.load import files_dtype, load_base
from lora.base.quantize import dequantize
from lora.base.tokenizer import load_tokenizer
from lora.config import LoraConfig, ModelConfig
from lora.files.atomic_write import new_directory, require_new
from lora.layers.experts import ExpertsLowRank, LoraExperts
from lora.load import AdaptedModel, adapt, load_adapted
from lora.peft.files import check_finite, pack, read_peft, unpack, write_files
from lora.types import Adapter
from rl.config import replaced
from rl.run.directory import holds_run
from rl.settings.toml import load_config


def find_adapter(source: Path, which: Literal["best", "last"] = "best") -> Adapter:
    """Return the adapter in a run's directory, or in a PEFT directory.

    Raises:
        ValueError: there is none.
        OSError: the directory cannot be looked into.
    """
    inside = source / "adapters" / which
    if inside.is_dir():
        return read_peft(inside, run=source.resolve().name)
    if not source.is_dir():
        raise ValueError(f"no directory {source}: name a run or an adapter")
    return read_peft(source)


def base_of(source: Path, name: str) -> ModelConfig:
    """Return the base model of that name as a run's directory was trained on it; as its files have it, elsewhere.

    Raises:
        ValueError: there is no such model.
    """
    if holds_run(source):
        return replaced(load_config(source / "config.toml").model, name=name)
    return replaced(ModelConfig(name=name), dtype=files_dtype(name))


def untrained_adapter(model: ModelConfig, lora: LoraConfig) -> Adapter:
    """Return an adapter with B = 0: the base model, to be measured like any other policy."""
    adapted = load_adapted(model, lora)
    return Adapter("base", 0, pack(adapted.layers.tensors(), adapted.description))


def lora_config(adapter: Adapter) -> LoraConfig:
    """Return the configuration that an adapter was made with."""
    _, description = unpack(adapter.payload)
    if description.rank == 0:  # all weights: any shape will do, for nothing is served in it
        return LoraConfig()
    targets = tuple(target for target in description.targets if target != "lm_head")
    return LoraConfig(
        rank=description.rank,
        alpha=description.alpha,
        targets=targets,
        lm_head="lm_head" in description.targets,
        allow_large_rank=True,
    )


def export_adapter(adapter: Adapter, out: Path) -> Path:
    """Write a PEFT directory, which PEFT and vLLM load."""
    if unpack(adapter.payload)[1].rank == 0:
        raise ValueError("the run trained all weights, so there is no adapter to export; use --merge for a whole model")
    with new_directory(out) as scratch:
        write_files(adapter, scratch)
    return out


def export_merged(adapter: Adapter, model: ModelConfig, out: Path) -> Path:
    """Write a whole model with W' = W + (alpha / rank) B A, summed in float32 and kept in the model's dtype.

    Raises:
        ValueError: the adapter is another model's, a weight of the sum is no number, or `out` is not empty.
    """
    require_new(out)  # before minutes are spent on the sum
    whole = _merged(adapter, model)
    _check_weights(whole)
    with new_directory(out) as scratch:
        whole.save_pretrained(str(scratch))
        load_tokenizer(model).save_pretrained(str(scratch))
    return out


def _merged(adapter: Adapter, model: ModelConfig) -> Any:
    tensors, description = unpack(adapter.payload)
    if description.rank == 0:
        return _with_weights(tensors, model)
    adapted = _in_float32(model, lora_config(adapter))
    adapted.layers.load(tensors)
    _merge_experts(adapted.model, adapted.layers.slot)
    for name, layer in adapted.layers.items():
        if isinstance(layer, ExpertsLowRank):
            continue
        base: Any = adapted.model.get_submodule(name).base
        with torch.no_grad():
            whole = base.weight + layer.scale * layer.lora_B @ layer.lora_A
        base.weight = nn.Parameter(whole)  # not in place: an output layer may share it with the embeddings
        parent, _, leaf = name.rpartition(".")
        setattr(adapted.model.get_submodule(parent), leaf, base)
    merged: Any = adapted.model.to(torch_dtype(model))
    if "lm_head" in adapted.description.targets:
        merged.config.tie_word_embeddings = False
    return merged


def _in_float32(model: ModelConfig, lora: LoraConfig) -> AdaptedModel:
    """Return the model with the numbers that the run had: those of the codes, where its base is quantised."""
    if model.quantization is None:
        return load_adapted(replaced(model, dtype="float32"), lora)
    base: Any = load_base(model)
    dequantize(base)
    return adapt(base.float(), model, lora)


def _with_weights(tensors: Mapping[str, Tensor], model: ModelConfig) -> Any:
    whole: Any = load_base(model)
    weights = dict(whole.named_parameters())
    if strange := sorted(weights.keys() ^ tensors.keys()):
        raise ValueError(f"the policy is of another model than {model.name}: {strange[0]} is in one only")
    with torch.no_grad():
        for name, weight in weights.items():
            if weight.shape != tensors[name].shape:
                have, want = list(tensors[name].shape), list(weight.shape)
                raise ValueError(f"{name} of the policy has shape {have}, and {model.name} needs {want}")
            weight.copy_(tensors[name])
    return whole


def _check_weights(whole: nn.Module) -> None:
    """Raises ValueError if a weight is no number: such a model answers nothing."""
    try:
        check_finite({name: weight for name, weight in whole.named_parameters() if weight.is_floating_point()})
    except ValueError as error:
        raise ValueError(f"the merged model is of no use: {error}") from None


def _merge_experts(model: nn.Module, slot: int) -> None:
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraExperts):
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, module.merged(slot))
