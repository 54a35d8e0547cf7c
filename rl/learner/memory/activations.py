"""The memory that an update takes besides the weights: what its forward pass keeps for the backward pass.

Counted on the path that a GPU takes, for the largest microbatch that a step can have:

* a norm keeps its input, in float32, unless its block is compiled: then that is computed again;
* adapted linear layers keep their input, for the gradient of A; those that read the same keep it once;
* attention keeps queries, keys, values and its output; where rows are not joined it keeps keys and values repeated for
  every query head, and the mask in the activations' type, [width, width] for a row of that width;
* a gated MLP keeps its gate, the activated gate and what that is multiplied with;
* with gradient checkpointing, a layer's input is kept, and one layer at a time holds the rest.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import nn

from lora.layers.experts import active_experts, is_experts
from rl.learner.model.output_layer import CHUNK

FLOAT32 = 4
OUTPUTS = ("o_proj", "out_proj", "dense", "c_proj", "wo")
"""Names of the linear layer that reads an attention's output."""
GATES = ("gate_proj", "gate_up_proj")
DOWN = ("down_proj", "fc2", "c_proj", "dense_4h_to_h")
"""Names of an MLP's last layer."""


@dataclass(frozen=True, slots=True)
class Activations:
    """Bytes that a model's update needs for its activations, by token and by pair of tokens of a row."""

    layers: int
    in_layers: float
    """Kept by all layers together, a token."""
    layer_input: float
    outside: float
    """Kept behind the layers, for the output layer, a token."""
    passing: float
    """Of gradients that exist for a moment of the backward pass, a token."""
    layer_mask: float
    """Kept by one layer, a pair."""
    shared_mask: float
    """Of the masks that all layers are given, a pair."""
    logits: float
    """Of the output layer's chunk, whatever the microbatch."""

    @classmethod
    def of(
        cls,
        model: nn.Module,
        dtype: torch.dtype,
        targets: Collection[str] | None = None,
        *,
        joined: bool = False,
        compiled: bool = False,
    ) -> Self:
        """Count a model's; it may be on the meta device. Adapters are on `targets`, or on every layer."""
        size = dtype.itemsize
        config: Any = cast(Any, model).config.get_text_config()
        hidden = config.hidden_size
        inner = max((width for _, width in _mlps(model)), default=hidden)
        tensors = 2 + 2 * _shared_heads(config) if joined else 4
        kept = _inputs(model, targets) + tensors * _attention_widths(model) + _mlp_widths(model) + _experts(model)
        softmax = _attentions(model) * _heads(config)
        return cls(
            layers=config.num_hidden_layers,
            in_layers=size * kept + FLOAT32 * ((0 if compiled else _norms(model)) + softmax),
            layer_input=size * hidden,
            outside=3 * size * hidden,
            passing=max((4 * FLOAT32 + size) * hidden, 2 * size * inner),  # in a norm, or in an MLP
            layer_mask=0 if joined else size,
            shared_mask=0 if joined else 2,
            logits=CHUNK * config.vocab_size * (size + (5 if targets and "lm_head" in targets else 2) * FLOAT32),
        )

    def bytes(self, tokens: int, width: int, *, checkpointing: bool) -> float:
        """For a microbatch of so many tokens, in rows of `width`."""
        pairs = tokens * width
        masks = pairs * self.shared_mask
        if not checkpointing:
            kept = tokens * (self.in_layers + self.outside) + pairs * self.layer_mask * self.layers
            return masks + kept + max(tokens * self.passing, self.logits)
        in_head = tokens * self.outside + self.logits
        in_layer = tokens * (self.in_layers / self.layers + self.passing) + pairs * self.layer_mask
        return masks + tokens * self.layer_input * self.layers + max(in_head, in_layer)


def longest_row(prompt: int, completion: int, group_size: int, tokens_per_row: int) -> int:
    """Inputs of the longest row that a group can make; `prompt` and `completion` are the longest there can be.

    A row is packed up to `tokens_per_row`, and longer only where one completion is.
    """
    packed = prompt + group_size * (completion - 1)
    return max(prompt + completion - 1, min(packed, tokens_per_row))


def _shared_heads(config: Any) -> float:
    """Return the key heads of each query head, of which several may share one."""
    return (getattr(config, "num_key_value_heads", None) or _heads(config)) / _heads(config)


def _heads(config: Any) -> int:
    """Return the query heads of an attention; 0 of a model that has none, such as Mamba."""
    return getattr(config, "num_attention_heads", 0)


def _norms(model: nn.Module) -> int:
    """Numbers that the norms read of a token: one of the heads' width reads every head."""
    config: Any = cast(Any, model).config.get_text_config()
    elements = 0
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if "Norm" in type(module).__name__ and weight is not None:
            heads = 1
            if _heads(config) and weight.numel() == getattr(config, "head_dim", None):
                heads = config.num_key_value_heads if "k_" in name.rpartition(".")[2] else _heads(config)
            elements += heads * weight.numel()
    return elements


def _inputs(model: nn.Module, targets: Collection[str] | None) -> int:
    """Numbers that adapted layers keep of a token. An attention's output is that one's own."""
    elements = 0
    for module in model.modules():
        attends = type(module).__name__.endswith("Attention")
        adapted = {
            child.in_features
            for name, child in _linears(module)
            if (targets is None or name in targets) and not (attends and name in OUTPUTS) and name != "lm_head"
        }
        elements += sum(adapted)
    return elements


def _attentions(model: nn.Module) -> int:
    return sum(1 for _ in _output_layers(model))


def _attention_widths(model: nn.Module) -> int:
    return sum(layer.in_features for layer in _output_layers(model))


def _output_layers(model: nn.Module) -> Iterator[nn.Linear]:
    for module in model.modules():
        if type(module).__name__.endswith("Attention"):
            yield from (child for name, child in _linears(module) if name in OUTPUTS)


def _mlp_widths(model: nn.Module) -> int:
    return sum(kept * width for kept, width in _mlps(model))


def _mlps(model: nn.Module) -> Iterator[tuple[int, int]]:
    """Return, for each MLP, how many tensors of its inner width it keeps, and that width."""
    for module in model.modules():
        children = dict(_linears(module))
        last = [child for name, child in children.items() if name in DOWN]
        if len(children) > 1 and last and not type(module).__name__.endswith("Attention"):
            yield (3 if any(name in GATES for name in children) else 1), last[0].in_features


def _experts(model: nn.Module) -> int:
    """Numbers that stacked experts keep of a token: in each that it goes through, its input, the gate and what goes
    beside it, the activated gate, the last layer's input, and its output."""
    layers = [module for module in model.modules() if is_experts(module)]
    if not layers:
        return 0
    active = active_experts(cast(Any, model).config)
    shapes = [cast(Any, layer).down_proj.shape for layer in layers]
    return sum(active * (2 * hidden + 4 * inner) for _, hidden, inner in shapes)


def _linears(module: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers right below, whether or not they are wrapped."""
    for name, child in module.named_children():
        base = getattr(child, "base", child)
        if isinstance(base, nn.Linear):
            yield name, base
