"""A run that begins from an adapter instead of the base model: `lora.init`, checked before anything is loaded."""

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lora.config import LoraConfig
from lora.experts import PROJECTIONS
from lora.files import Description, unpack
from lora.inject import inject
from lora.load import load_skeleton
from rl.config import RunConfig, replaced
from rl.data.files import locate
from rl.run.export import find_adapter

log = logging.getLogger(__name__)

Tensors = Mapping[str, Tensor]


def absolute_init(lora: LoraConfig, base: Path) -> LoraConfig:
    """Return the same configuration with an absolute path in `init`; relative paths start at `base`.

    Raises:
        ValueError: there is no such directory.
    """
    if lora.init is None:
        return lora
    directory = locate(lora.init, base)
    if directory is None or not directory.is_dir():
        raise ValueError(f"lora.init: there is no directory {lora.init!r}; name a run or an adapter")
    return replaced(lora, init=str(directory.resolve()))


def read_init(config: RunConfig) -> Tensors | None:
    """Return the tensors of the adapter that a run begins from; None for a fresh one.

    Raises:
        ValueError: there is no such adapter, or it does not fit the model and `[lora]`.
    """
    if config.lora.init is None:
        return None
    tensors, description = unpack(find_adapter(Path(config.lora.init)).payload)
    _check(config, tensors, description)
    return tensors


def _check(config: RunConfig, tensors: Tensors, description: Description) -> None:
    lora, where = config.lora, f"lora.init: the adapter in {config.lora.init}"
    for name, configured, actual in (("rank", lora.rank, description.rank), ("alpha", lora.alpha, description.alpha)):
        if configured != actual:
            raise ValueError(
                f"{where} has {name} {actual:g}, and lora.{name} is {configured:g}; set lora.{name} = {actual:g}"
            )
    _check_targets(lora, tensors, where)
    needed = inject(load_skeleton(config.model), lora).tensors()
    for name, tensor in needed.items():
        if name not in tensors or tensors[name].shape != tensor.shape:
            have = f"has shape {list(tensors[name].shape)}" if name in tensors else "is missing"
            raise ValueError(
                f"{where} is for another model than {config.model.name}: {name} {have}, where {list(tensor.shape)} is "
                "needed"
            )
    if more := sorted(tensors.keys() - needed.keys()):
        raise ValueError(f"{where} is for another model than {config.model.name}, which has no {more[0]}")
    if description.base_model != config.model.name:
        log.warning("%s was made for %r; the run's model is %r", where, description.base_model, config.model.name)


def _check_targets(lora: LoraConfig, tensors: Tensors, where: str) -> None:
    adapted = {name.rpartition(".")[0].rpartition(".")[2] for name in tensors}
    if adapted & {"experts", "base_layer"}:
        adapted = (adapted - {"experts", "base_layer"}) | set(PROJECTIONS)
    if adapted == set(lora.all_targets):
        return
    settings = [f"lora.targets = {_toml(adapted - {'lm_head'})}"]
    if ("lm_head" in adapted) != lora.lm_head:
        settings.append(f"lora.lm_head = {str('lm_head' in adapted).lower()}")
    raise ValueError(f"{where} adapts other layers than [lora] says; set {' and '.join(settings)}")


def _toml(names: set[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in sorted(names)) + "]"
