"""Floating-point operations of an update, counted from the shapes of what the algorithm needs.

A product of [m, k] with [k, n] is 2 m k n. Padding, recomputation and what a slower way would do besides are not counted,
so a share of a plain product's speed says how much of the time went into work that had to be done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from lora.config import LoraConfig
from rl.types import Row


@dataclass(frozen=True, slots=True)
class Flops:
    """Of one update."""

    linears: int
    """The frozen products of the blocks, and the gradients of their inputs."""
    adapters: int
    """A and B: products, and the gradients of inputs and weights."""
    attention: int
    head: int
    weights: int
    """What full fine-tuning would do on top: the gradients of the frozen weights, those of the head included."""

    @property
    def lora(self) -> int:
        """Of an update of the adapter."""
        return self.linears + self.adapters + self.attention + self.head

    @property
    def full(self) -> int:
        """Of an update of every weight."""
        return self.linears + self.attention + self.head + self.weights


def count(model: nn.Module, lora: LoraConfig, rows: Sequence[Row]) -> Flops:
    """Of one update of an adapter of every target from these rows. The model is not adapted yet, or on the meta device."""
    causal_lm: Any = model
    config = causal_lm.config.get_text_config()
    tokens = sum(len(row.token_ids) for row in rows)
    targets = sum(len(row.targets) for row in rows)
    first = _no_input_gradient(causal_lm)
    linears = adapters = weights = 0
    for name, module in causal_lm.get_decoder().named_modules():
        if isinstance(module, nn.Linear):
            size = module.in_features * module.out_features
            linears += 2 * tokens * size * (1 if name in first else 2)
            weights += 2 * tokens * size
            if name.rpartition(".")[2] in lora.targets:
                ranks = lora.rank * (module.in_features + module.out_features)
                # Forward, weights' gradients, and inputs' gradients; A of the first layer has none of the last.
                adapters += 2 * tokens * (3 * ranks - (lora.rank * module.in_features if name in first else 0))
    head = causal_lm.get_output_embeddings()
    head_size = head.in_features * head.out_features
    width = config.num_attention_heads * getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    seen = sum(map(_visible_pairs, rows))
    # Two products a query and key it sees, each with two gradients.
    attention = config.num_hidden_layers * 2 * 2 * seen * width * 3
    return Flops(linears, adapters, attention, 2 * targets * head_size * 2, weights + 2 * targets * head_size)


def _visible_pairs(row: Row) -> int:
    """Count the pairs of a query and a key that it sees."""
    prompt, *completions = (int(length) for length in row.segment_ids.unique_consecutive(return_counts=True)[1])
    return prompt * (prompt + 1) // 2 + sum(length * prompt + length * (length + 1) // 2 for length in completions)


def _no_input_gradient(model: Any) -> set[str]:
    """The linear layers that read the frozen embeddings: nothing before them is trained."""
    return {f"layers.0.self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj")}
