"""A run that begins from an adapter instead of the base model: `lora.init`, checked before anything is loaded."""

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lora.base.load import load_skeleton
from lora.config import LoraConfig
from lora.layers.experts import EXPERT_LAYERS, PROJECTIONS
from lora.peft.description import Description
from lora.peft.files import unpack
from lora.trainable.inject import fresh_tensors
from lora.trainable.refit import Refit, layers_of, refit
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
    """Return the tensors of the adapter that a run begins from, in the run's shape; None for a fresh one.

    Raises:
        ValueError: there is no such adapter, or it does not fit the model and `[lora]`.
    """
    if config.lora.init is None:
        return None
    tensors, description = unpack(find_adapter(Path(config.lora.init)).payload)
    return _fit(config, tensors, description).tensors


def _fit(config: RunConfig, tensors: Tensors, description: Description) -> Refit:
    """Return the adapter as the run has it. Raises as `read_init` does."""
    lora, where = config.lora, f"lora.init: the adapter in {config.lora.init}"
    if description.rank == 0:
        raise ValueError(
            f"lora.init: {config.lora.init} holds all of a model's weights and no adapter; merge it with `rankone "
            "export --merge` and name that as model.name"
        )
    _check_targets(lora, tensors, where)
    fresh = fresh_tensors(load_skeleton(config.model), lora, seed=config.seed)
    _check_layers(config, tensors, fresh, where)
    try:
        refitted = refit(tensors, description, lora, fresh)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    _check_cut(lora, refitted, description, where)
    if description.base_model != config.model.name:
        log.warning("%s was made for %r; the run's model is %r", where, description.base_model, config.model.name)
    if lacking := [layer for layer in layers_of(fresh) if f"{layer}.lora_A" not in tensors]:
        log.warning("%s lacks %d layers of [lora], such as %s, which begin fresh", where, len(lacking), lacking[0])
    return refitted


def _check_layers(config: RunConfig, tensors: Tensors, fresh: Tensors, where: str) -> None:
    """Raises ValueError if a layer of the adapter is not the model's: the rank alone may differ."""
    mismatch = f"{where} is for another model than {config.model.name}"
    if more := sorted(tensors.keys() - fresh.keys()):
        raise ValueError(f"{mismatch}, which has no {more[0]}")
    for layer in layers_of(tensors):
        A, B = (tensors.get(f"{layer}.{part}") for part in ("lora_A", "lora_B"))
        if A is None or B is None or A.dim() != 2 or B.dim() != 2 or A.shape[0] != B.shape[1]:
            raise ValueError(f"{where} is damaged: {layer} has no A and B of one rank")
        have, needed = [A.shape[1], B.shape[0]], [fresh[f"{layer}.lora_A"].shape[1], fresh[f"{layer}.lora_B"].shape[0]]
        if have != needed:
            raise ValueError(f"{mismatch}: {layer} has {have} inputs and outputs, where {needed} are needed")


def _check_cut(lora: LoraConfig, refitted: Refit, description: Description, where: str) -> None:
    """Raises ValueError if the adapter was cut to a lower rank, and `[lora]` does not let it."""
    worst = refitted.worst
    if worst is None:
        return
    error = f"{refitted.error:.2g} of its products' norm ({worst.relative:.2g} in {worst.layer})"
    if lora.init_fit == "exact":
        raise ValueError(
            f"{where} has rank {description.rank}, and lora.rank is {lora.rank}; set lora.rank = {description.rank}, "
            f'or lora.init_fit = "nearest", which would lose {error}'
        )
    log.warning("%s was cut from rank %d to %d, which lost %s", where, description.rank, lora.rank, error)


def _check_targets(lora: LoraConfig, tensors: Tensors, where: str) -> None:
    """Raises ValueError if the adapter adapts layers that `[lora]` does not."""
    adapted = {layer.rpartition(".")[2] for layer in layers_of(tensors)}
    if adapted & {*EXPERT_LAYERS}:
        adapted = (adapted - {*EXPERT_LAYERS}) | set(PROJECTIONS)
    if adapted <= set(lora.all_targets):
        return
    settings = [f"lora.targets = {_toml((adapted | set(lora.targets)) - {'lm_head'})}"]
    if "lm_head" in adapted and not lora.lm_head:
        settings.append("lora.lm_head = true")
    raise ValueError(f"{where} adapts other layers than [lora] says; set {' and '.join(settings)}")


def _toml(names: set[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in sorted(names)) + "]"
