"""Adapters that a run compares its policy with and does not train: a teacher, a reference. Checked before it begins."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lora.config import LoraConfig
from lora.files import unpack
from lora.inject import fresh_tensors
from lora.load import load_skeleton
from lora.types import Adapter
from rl.config import RunConfig
from rl.data.files import locate
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


def absolute_frozen(config: RunConfig, base: Path) -> dict[str, dict[str, str | None]]:
    """Return what changes in the configuration's tables where paths of such adapters are absolute. Raises as above."""
    return {
        "teacher": {"adapter": absolute_adapter(config.teacher.adapter, base, "teacher.adapter")},
        "learner": {"kl_reference": absolute_adapter(config.learner.kl_reference, base, "learner.kl_reference")},
    }


def read_frozen(config: RunConfig) -> Mapping[str, Adapter]:
    """Return the adapters that the learner holds beside the policy, by their parts in the run.

    Raises:
        ValueError: there is no such adapter, or it is none of the run's model.
    """
    paths = {
        "teacher": ("teacher.adapter", config.teacher.adapter),
        "reference": ("learner.kl_reference", config.learner.kl_reference),
    }
    return {part: _read(config, path, key) for part, (key, path) in paths.items() if path is not None}


def _read(config: RunConfig, path: str, key: str) -> Adapter:
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
        fresh = fresh_tensors(load_skeleton(config.model), lora, seed=0)
    except ValueError as error:
        raise ValueError(f"{key}: the adapter in {path} does not fit {config.model.name}: {error}") from None
    shapes, own_shapes = _shapes(tensors), _shapes(fresh)
    if wrong := [name for name in {**shapes, **own_shapes} if shapes.get(name) != own_shapes.get(name)]:
        raise ValueError(f"{key}: the adapter in {path} is for another model than {config.model.name}: see {wrong[0]}")
    return adapter


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
