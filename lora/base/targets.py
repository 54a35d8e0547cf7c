"""The layers that `lora.targets` and `lora.exclude` mean on a model, by their names."""

import json
from collections.abc import Collection

from torch import nn

from lora.base.architecture import reads_text
from lora.base.linear_names import all_linear
from lora.base.load import load_skeleton
from lora.config import ALL_LINEAR, LoraConfig, ModelConfig
from lora.layers.experts import PROJECTIONS, is_experts


def resolve_lora(model: ModelConfig, lora: LoraConfig) -> LoraConfig:
    """Return `resolve_targets`' result; the model's configuration is read only if it matters.

    Raises:
        ValueError: as `resolve_targets`, there is no such model, or TinyLoRA would adapt experts.
    """
    if lora.targets != (ALL_LINEAR,) and not lora.exclude and lora.kind == "lora":
        return lora
    skeleton = load_skeleton(model)
    resolved = resolve_targets(skeleton, lora)
    if lora.kind == "tiny":
        wants_experts(resolved, [module for module in reads_text(skeleton) if is_experts(module)])
    return resolved


def resolve_targets(skeleton: nn.Module, lora: LoraConfig) -> LoraConfig:
    """Return the same configuration with the names of the layers that are adapted, and nothing to exclude.

    Raises:
        ValueError: `lora.exclude` names none of them, or all.
    """
    targets = all_linear(skeleton) if lora.targets == (ALL_LINEAR,) else lora.targets
    if strange := [name for name in lora.exclude if name not in targets]:
        raise ValueError(
            f"lora.exclude names {', '.join(strange)}, and the layers that would be adapted are: {', '.join(targets)}"
        )
    kept = tuple(name for name in targets if name not in lora.exclude)
    if not kept and not lora.lm_head:
        raise ValueError("lora.exclude names every layer of lora.targets, so nothing would be trained: leave one out")
    return LoraConfig.model_validate({**dict(lora), "targets": kept, "exclude": ()})


def wants_experts(config: LoraConfig, experts: Collection[object]) -> bool:
    """Return True if `config` adapts a model's experts, and there are any.

    Raises:
        ValueError: it names a part of what they do, and their weights are stacked; or it is TinyLoRA.
    """
    named = [target for target in config.targets if target in PROJECTIONS]
    if experts and named and len(named) < len(PROJECTIONS):
        raise ValueError(
            f"lora.targets names {' and '.join(named)}, and this model's experts are adapted whole: name all of "
            f"{', '.join(PROJECTIONS)}, or none"
        )
    if experts and named and config.kind == "tiny":
        raise ValueError(
            f'lora.kind = "tiny" is not known for experts: set lora.exclude = {json.dumps(PROJECTIONS)}, or '
            'lora.kind = "lora"'
        )
    return bool(experts) and bool(named)
