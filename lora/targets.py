"""The layers that `lora.targets` and `lora.exclude` mean on a model, by their names."""

from torch import nn

from lora.architecture import reads_text
from lora.config import ALL_LINEAR, LoraConfig, ModelConfig
from lora.experts import is_experts
from lora.inject import wants_experts
from lora.linear_names import all_linear
from lora.load import load_skeleton


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
