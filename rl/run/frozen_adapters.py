"""Adapters that a run compares its policy with and does not train: a teacher, a reference. Checked before it begins."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lora.base.load import check_base, load_skeleton
from lora.base.tokenizer import load_tokenizer
from lora.config import LoraConfig, ModelConfig
from lora.peft.files import unpack
from lora.trainable.inject import fresh_tensors
from lora.types import Adapter
from rl.config import RunConfig
from rl.data.files import locate
from rl.learner.bases.frozen_model import FrozenSpec
from rl.run.export import find_adapter


def absolute_adapter(path: str | None, base: Path, key: str) -> str | None:
    """Return the absolute path of an adapter that `key` names; relative paths start at `base`.

    Raises:
        ValueError: there is no such directory.
    """
    if path is None:
        return None
    directory = locate(path, base)
    if directory is None or not directory.is_dir():
        raise ValueError(f"{key}: there is no directory {path!r}; name a run or an adapter")
    return str(directory.resolve())


def read_frozen(config: RunConfig) -> Mapping[str, Adapter]:
    """Return the adapters that the learner holds beside the policy on the run's model, by their parts in the run.

    Raises:
        ValueError: there is no such adapter, or it is none of the run's model.
    """
    on_base = config.teacher.own_model(config.model) is None
    paths = {
        "teacher": ("teacher.adapter", config.teacher.adapter if on_base else None),
        "reference": ("learner.kl_reference", config.learner.kl_reference),
    }
    return {part: _read(config.model, path, key) for part, (key, path) in paths.items() if path is not None}


def read_teacher(config: RunConfig) -> FrozenSpec | None:
    """Return the teacher that has a model of its own; None where there is none.

    Raises:
        ValueError: its adapter is not there, or is none of that model.
    """
    model = config.teacher.own_model(config.model)
    if model is None:
        return None
    path = config.teacher.adapter
    return FrozenSpec(model, None if path is None else _read(model, path, "teacher.adapter"))


def check_teacher(config: RunConfig) -> None:
    """See that a teacher's own model knows the student's tokens, before any weight is read.

    Raises:
        ValueError: it does not, there is no such model, or it is to be quantised and cannot be.
    """
    model = config.teacher.own_model(config.model)
    if model is None:
        return
    check_base(model)
    if load_tokenizer(model).get_vocab() != load_tokenizer(config.model).get_vocab():
        raise ValueError(
            f"teacher.model = {model.name!r} has other tokens than {config.model.name!r}, and a teacher reads those "
            "that the student wrote: name a model with the same tokenizer"
        )
    if (known := _vocabulary(model)) < (needed := _vocabulary(config.model)):
        raise ValueError(
            f"teacher.model = {model.name!r} has embeddings of {known:,} tokens, and {config.model.name!r} may write "
            f"{needed:,}: name a model of at least as many"
        )


def _vocabulary(model: ModelConfig) -> int:
    skeleton: Any = load_skeleton(model)
    return skeleton.config.get_text_config().vocab_size


def _read(model: ModelConfig, path: str, key: str) -> Adapter:
    try:
        adapter = find_adapter(Path(path))
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    tensors, description = unpack(adapter.payload)
    if description.rank == 0:
        raise ValueError(f"{key}: {path} holds all of a model's weights and no adapter")
    targets = tuple(description.targets)
    lora = LoraConfig(rank=description.rank, alpha=description.alpha, targets=targets, allow_large_rank=True)
    try:
        fresh = fresh_tensors(load_skeleton(model), lora, seed=0)
    except ValueError as error:
        raise ValueError(f"{key}: the adapter in {path} does not fit {model.name}: {error}") from None
    shapes, own_shapes = _shapes(tensors), _shapes(fresh)
    if wrong := [name for name in {**shapes, **own_shapes} if shapes.get(name) != own_shapes.get(name)]:
        raise ValueError(f"{key}: the adapter in {path} is for another model than {model.name}: see {wrong[0]}")
    return adapter


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
