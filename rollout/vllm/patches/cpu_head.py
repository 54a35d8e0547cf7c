"""A float32 output layer on a CPU, with a copy of its weight that is made once.

vLLM casts the whole weight for every token there (on a GPU its product of bfloat16 numbers is float32 by itself).
"""

from typing import Any

from torch import Tensor
from vllm.model_executor.layers.logits_processor import LogitsProcessor

from lora.layers.wide_head import wide_product


def install() -> None:
    """Make engines that start in this process from now on compute so."""
    processor: Any = LogitsProcessor
    original = processor._apply_head
    if original.__module__ == __name__:  # installed already
        return

    def _apply_head(self: Any, lm_head: Any, hidden_states: Tensor, embedding_bias: Tensor | None) -> Tensor:
        if self.head_dtype in (None, hidden_states.dtype):
            return original(self, lm_head, hidden_states, embedding_bias)
        logits = wide_product(hidden_states, lm_head.weight)
        return logits if embedding_bias is None else logits + embedding_bias.float()

    processor._apply_head = _apply_head
