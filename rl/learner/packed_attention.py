"""Attention over packed rows on a CPU: a block of queries at a time, against the keys that any of them sees.

In a packed row a completion sees the prompt and itself, so most of a row's scores are hidden ones, and most of those
are never made. torch's own CPU kernel makes them all, which takes two to five times as long. What is kept for the
gradient is queries, keys and values, as there. On a GPU the rows are joined, and `rl.learner.flex_attention` attends.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask

from rl.learner.flex_attention import flex_attention

NAME = "rankone_packed"
QUERIES = 64
"""Of a block. Fewer would see fewer keys in common, but every operation has its price."""
SCORES_AT_ONCE = 2**20
"""Rows are taken together up to so many: enough that operations are large, few enough to stay near a core's cache."""
LARGER_ON_GPU = 16
"""How many times as large both are there, where an operation's price is higher."""


def use_packed_attention(model: nn.Module) -> None:
    """Let a model of transformers attend through `packed_attention`."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    causal_lm: Any = model
    causal_lm.set_attn_implementation(NAME)


def packed_attention(
    module: nn.Module,
    query: Float[Tensor, "rows heads inputs width"],
    key: Float[Tensor, "rows kv_heads inputs width"],
    value: Float[Tensor, "rows kv_heads inputs value_width"],
    attention_mask: Tensor | BlockMask | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    **more: Any,
) -> tuple[Float[Tensor, "rows inputs heads value_width"], None]:
    """Attend as transformers asks it of an attention; `attention_mask` is bool, [rows, 1, inputs, inputs], or by blocks
    where rows are joined."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if isinstance(attention_mask, BlockMask):
        return flex_attention(query, key, value, attention_mask, scaling, softcap), None
    if softcap is None and (attention_mask is None or query.device.type != "cpu"):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **more
        )
    inputs = query.shape[2]
    if attention_mask is None:
        attention_mask = torch.ones(1, 1, inputs, inputs, dtype=torch.bool, device=query.device).tril()
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    mask = attention_mask.expand(len(query), -1, -1, -1)
    out: Tensor = _PackedAttention.apply(query, key, value, mask, scale, softcap)  # pyright: ignore[reportAssignmentType]
    return out.transpose(1, 2), None


@dataclass(frozen=True, slots=True)
class _Block:
    """Some queries of some rows, and all that they see."""

    rows: slice
    queries: slice
    keys: Int[Tensor, " keys"]
    hidden: Bool[Tensor, "rows 1 queries keys"]

    def of_queries(self, tensor: Tensor) -> Float[Tensor, "rows heads queries width"]:
        return tensor[self.rows, :, self.queries]

    def of_keys(self, tensor: Tensor) -> Float[Tensor, "rows kv_heads keys width"]:
        return tensor[self.rows].index_select(2, self.keys)

    def add(self, total: Tensor, part: Tensor) -> None:
        """To the keys' own, in a total of all keys."""
        total[self.rows].index_add_(2, self.keys, part.to(total.dtype))


def _blocks(mask: Bool[Tensor, "rows 1 inputs inputs"], heads: int) -> Iterator[_Block]:
    rows, _, inputs, _ = mask.shape
    larger = 1 if mask.device.type == "cpu" else LARGER_ON_GPU
    tall = min(larger * QUERIES, inputs)
    together = max(1, larger * SCORES_AT_ONCE // (heads * tall * inputs))
    for row in range(0, rows, together):
        for query in range(0, inputs, tall):
            some, queries = slice(row, row + together), slice(query, query + tall)
            seen = mask[some, :, queries]
            keys = seen.flatten(0, 2).any(0).nonzero()[:, 0]
            yield _Block(some, queries, keys, ~seen.index_select(3, keys))


class _PackedAttention(torch.autograd.Function):
    """softmax(cap tanh(q k^T scale / cap), where seen) v, several query heads to a key head.

    Scores and their gradient are float32; probabilities are rounded to the inputs' type where they multiply, as in the
    usual GPU kernels.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float, softcap: float | None
    ) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.blocks, ctx.scale, ctx.softcap = list(_blocks(mask, query.shape[1])), scale, softcap
        out = query.new_empty(*query.shape[:-1], value.shape[-1])  # values may have another width than keys
        for block in ctx.blocks:
            q, k, v = block.of_queries(query), block.of_keys(key), block.of_keys(value)
            probabilities, _ = _probabilities(q, k, block.hidden, scale, softcap)
            part = probabilities.to(v.dtype) @ _by_key_head(v, k)
            out[block.rows, :, block.queries] = part.view(*q.shape[:-1], -1)
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        query, key, value = ctx.saved_tensors
        grad_query = torch.empty_like(query)
        # Blocks share keys: their parts add up in float32.
        grad_key, grad_value = (torch.zeros(t.shape, dtype=torch.float32, device=t.device) for t in (key, value))
        for block in ctx.blocks:
            q, k, v = block.of_queries(query), block.of_keys(key), block.of_keys(value)
            grad = block.of_queries(grad_outputs[0])
            of_query, of_key, of_value = _gradients(q, k, v, block.hidden, grad, ctx.scale, ctx.softcap)
            grad_query[block.rows, :, block.queries] = of_query.view(q.shape)
            block.add(grad_key, of_key.view(k.shape))
            block.add(grad_value, of_value.view(v.shape))
        return grad_query, grad_key.to(key.dtype), grad_value.to(value.dtype), None, None, None


def _gradients(
    query: Tensor, key: Tensor, value: Tensor, hidden: Tensor, grad: Tensor, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value, each as its key heads see it."""
    probabilities, slope = _probabilities(query, key, hidden, scale, softcap)
    grad = _by_key_head(grad, key)
    grad_value = probabilities.to(grad.dtype).transpose(1, 2) @ grad
    grad_scores = grad.float() @ _by_key_head(value, key).float().transpose(1, 2)
    grad_scores -= torch.linalg.vecdot(grad_scores, probabilities)[..., None]
    grad_scores.mul_(probabilities).mul_(scale if slope is None else slope * scale)
    rounded = grad_scores.to(query.dtype)
    return rounded @ _by_key_head(key, key), rounded.transpose(1, 2) @ _by_key_head(query, key), grad_value


def _probabilities(
    query: Tensor, key: Tensor, hidden: Tensor, scale: float, softcap: float | None
) -> tuple[Float[Tensor, "rows_kv_heads group_queries keys"], Tensor | None]:
    """And, with a soft cap, its derivative."""
    scores = (_by_key_head(query, key).float() @ _by_key_head(key, key).float().transpose(1, 2)).mul_(scale)
    slope = None
    if softcap is not None:
        bent = torch.tanh(scores / softcap)
        scores, slope = bent * softcap, 1 - bent.square()
    rows, heads, queries, _ = query.shape
    scores.view(rows, heads, queries, -1).masked_fill_(hidden, -torch.inf)
    return scores.softmax(-1), slope


def _by_key_head(tensor: Tensor, key: Tensor) -> Float[Tensor, "rows_kv_heads group_inputs width"]:
    """The query heads of one key head stand below each other."""
    rows, kv_heads, _, _ = key.shape
    return tensor.reshape(rows * kv_heads, -1, tensor.shape[-1])
