"""Other tools' adapters: PEFT's `adapter_config.json`, and what of it is plain LoRA with one rank and one alpha."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from lora.config import MOST_ALPHA, MOST_RANK
from lora.layers.experts import EXPERT_LAYERS, PROJECTIONS
from lora.peft.description import EXPERT_WEIGHTS, Description

READ = {
    "alpha_pattern", "base_model_name_or_path", "lora_alpha", "peft_type", "r", "rank_pattern", "target_modules",
    "target_parameters", "use_rslora",
}  # fmt: skip
WITHOUT_EFFECT = {
    "auto_mapping", "ensure_weight_tying", "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode",
    "layers_pattern", "layers_to_transform", "lora_dropout", "megatron_core", "peft_version", "qalora_group_size",
    "revision", "runtime_config", "task_type",
}  # fmt: skip
"""Keys that change nothing of what a trained adapter computes, or of which layers there are tensors."""
HARMLESS = {"bias": ("none",), "init_lora_weights": (True, "gaussian", "eva", "orthogonal")}
"""Values of other keys that change nothing. Other initialisations (PiSSA, OLoRA, CorDA, LoftQ) change the base's
weights, too, so A and B alone are another policy."""

Tensors = Mapping[str, Tensor]


def describe(config: Mapping[str, Any], tensors: Iterable[str] = ()) -> Description:
    """Read PEFT's configuration, and the layers off the names of the adapter's `tensors`, if there are any.

    PEFT's `target_modules` may be names, a regular expression, or "all-linear". An adapter of rank-stabilised LoRA
    (Kalajdzievski 2023), whose scale is alpha / sqrt(rank), gets the alpha that makes ours the same. Ranks and alphas
    of single layers are left to `as_plain`.

    Raises:
        ValueError: the adapter is not plain LoRA.
    """
    if config.get("peft_type") != "LORA":
        raise ValueError(f"the adapter has peft_type = {config.get('peft_type')!r}; only plain LoRA can be read")
    for key, value in config.items():
        if value and key not in READ | WITHOUT_EFFECT and value not in HARMLESS.get(key, ()):
            raise ValueError(f"the adapter has {key} = {value!r}; only plain LoRA can be read")
    rank, alpha = _rank(config.get("r"), "r"), _alpha(config.get("lora_alpha"), "lora_alpha")
    of_experts = _expert_rank(config, rank)
    if config.get("use_rslora"):
        if of_experts not in (None, rank):
            raise ValueError(
                "the adapter is not plain LoRA: use_rslora gives its experts, of another rank, another alpha"
            )
        alpha = _alpha(alpha * math.sqrt(rank), "lora_alpha times the root of its r")
    names = _targets(config.get("target_modules"), tensors, has_experts=of_experts is not None)
    base_model = config.get("base_model_name_or_path") or ""
    if not isinstance(base_model, str):
        raise ValueError(f"the adapter's base_model_name_or_path must be text, and is {base_model!r}")
    return Description(base_model, rank, float(alpha), names, of_experts)


def as_plain(tensors: Tensors, config: Mapping[str, Any]) -> tuple[Tensors, Description]:
    """Return the adapter with one rank and one alpha for all layers, and the same products.

    Where layers have ranks or alphas of their own, the highest rank is everybody's: A and B get zeros, and B the ratio
    of the scales, in float32.

    Raises:
        ValueError: the adapter is not plain LoRA, or its tensors have not the ranks that the configuration says.
    """
    description = describe(config, tensors)
    layers = [name.removesuffix(".lora_A") for name in tensors if name.endswith(".lora_A")]
    layers = [layer for layer in layers if layer.rpartition(".")[2] not in EXPERT_LAYERS]
    ranks = {layer: _own(config, "rank_pattern", layer, config["r"]) for layer in layers}
    alphas = {layer: _own(config, "alpha_pattern", layer, config["lora_alpha"]) for layer in layers}
    for layer, rank in ranks.items():
        shape = list(tensors[f"{layer}.lora_A"].shape)
        if shape[:1] != [_rank(rank, f"rank_pattern of {layer}")]:
            raise ValueError(f"{layer}.lora_A has shape {shape}, which is not of rank {rank}")
        _alpha(alphas[layer], f"alpha_pattern of {layer}")
    if {*ranks.values()} <= {config["r"]} and {*alphas.values()} <= {config["lora_alpha"]}:
        return tensors, description
    if description.expert_rank is not None:
        raise ValueError("the adapter is not plain LoRA: it has experts, and ranks or alphas of single layers")
    return _evened(tensors, description, ranks, alphas, math.sqrt if config.get("use_rslora") else float)


def _evened(
    tensors: Tensors, description: Description, ranks: Mapping[str, int], alphas: Mapping[str, float], root: Any
) -> tuple[Tensors, Description]:
    rank = max(ranks.values())
    plain, scale = dict(tensors), description.alpha / rank
    for layer, own in ranks.items():
        A, B = (tensors[f"{layer}.{part}"].float() for part in ("lora_A", "lora_B"))
        ratio = alphas[layer] / root(own) / scale
        plain[f"{layer}.lora_A"] = torch.cat([A, A.new_zeros(rank - own, A.shape[1])])
        plain[f"{layer}.lora_B"] = torch.cat([ratio * B, B.new_zeros(B.shape[0], rank - own)], dim=1)
    return plain, Description(description.base_model, rank, description.alpha, description.targets)


def _own(config: Mapping[str, Any], key: str, layer: str, default: Any) -> Any:
    """Return a layer's value in a pattern: that of the first key that matches its name or the end of it, as in PEFT."""
    patterns = config.get(key) or {}
    if not isinstance(patterns, dict):
        raise ValueError(f"the adapter's {key} must be a table, and is {patterns!r}")
    try:
        matching = (value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", layer))
        return next(matching, default)
    except re.error as error:
        raise ValueError(f"the adapter's {key} has a key that is no regular expression: {error}") from None


def _rank(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_RANK:
        raise ValueError(f"the adapter's {what} must be a whole number from 1 to {MOST_RANK}, and is {value!r}")
    return value


def _alpha(value: object, what: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= MOST_ALPHA:
        raise ValueError(f"the adapter's {what} must be above 0 and at most {MOST_ALPHA:g}, and is {value!r}")
    return value


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


def _expert_rank(config: Mapping[str, Any], rank: int) -> int | None:
    """Return the rank of an adapter's experts, if it has any.

    Raises:
        ValueError: they have several, or an alpha of their own.
    """
    parameters = cast("Sequence[str]", config.get("target_parameters") or ())
    known = {name.rpartition(".")[2] for name in EXPERT_WEIGHTS}
    expert_ranks = {_rank(_own(config, "rank_pattern", name, rank), "rank_pattern") for name in parameters}
    has_alphas = any(_own(config, "alpha_pattern", name, None) is not None for name in parameters)
    if not all(name.rpartition(".")[2] in known for name in parameters) or len(expert_ranks) > 1 or has_alphas:
        raise ValueError("the adapter is not plain LoRA with one rank and one alpha for experts")
    return expert_ranks.pop() if expert_ranks else None
