"""Attention over packed rows on a CPU: a block of queries at a time, against the keys that any of them sees.

In a packed row a completion sees the prompt and itself, so most of a row's scores are hidden ones, and most of those
are never made. torch's own CPU kernel makes them all, which takes two to five times as long. What is kept for the
gradient is queries, keys and values, as there. On a GPU the rows are joined, and `flex_attention` beside this
attends.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask

from rl.learner.model.flex_attention import flex_attention

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
    s_aux: Float[Tensor, " heads"] | None = None,
    **more: Any,
) -> tuple[Float[Tensor, "rows inputs heads value_width"], None]:
    """Attend as transformers asks it of an attention; `attention_mask` is bool, [rows, 1, inputs, inputs], or by blocks
    where rows are joined, and `s_aux` the score of each head's sink."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if isinstance(attention_mask, BlockMask):
        return flex_attention(query, key, value, attention_mask, scaling, softcap, s_aux), None
    if softcap is None and s_aux is None and (attention_mask is None or query.device.type != "cpu"):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **more
        )
    inputs = query.shape[2]
    if attention_mask is None:
        attention_mask = torch.ones(1, 1, inputs, inputs, dtype=torch.bool, device=query.device).tril()
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    mask = attention_mask.expand(len(query), -1, -1, -1)
    out: Tensor = _PackedAttention.apply(query, key, value, s_aux, mask, scale, softcap)  # pyright: ignore[reportAssignmentType]
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

    A head's sink (gpt-oss) is one more score, of a key without a value: it takes a share of every query's attention.
    Scores and their gradient are float32; probabilities are rounded to the inputs' type where they multiply, as in the
    usual GPU kernels.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None, mask: Tensor, scale: float,
        softcap: float | None,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(query, key, value, sinks)
        ctx.blocks, ctx.scale, ctx.softcap = list(_blocks(mask, query.shape[1])), scale, softcap
        out = query.new_empty(*query.shape[:-1], value.shape[-1])  # values may have another width than keys
        for block in ctx.blocks:
            q, k, v = block.of_queries(query), block.of_keys(key), block.of_keys(value)
            shares = _shares(q, k, sinks, block.hidden, scale, softcap)
            part = shares.keys.to(v.dtype) @ _by_key_head(v, k)
            out[block.rows, :, block.queries] = part.view(*q.shape[:-1], -1)
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, sinks = ctx.saved_tensors
        grad_query = torch.empty_like(query)
        # Blocks share keys: their parts add up in float32.
        grad_key, grad_value = (torch.zeros(t.shape, dtype=torch.float32, device=t.device) for t in (key, value))
        grad_sinks = torch.zeros(query.shape[1], dtype=torch.float32, device=query.device)
        for block in ctx.blocks:
            q, k, v = block.of_queries(query), block.of_keys(key), block.of_keys(value)
            shares = _shares(q, k, sinks, block.hidden, ctx.scale, ctx.softcap)
            of_query, of_key, of_value, of_sink = _gradients(
                q, k, v, shares, block.of_queries(grad_outputs[0]), ctx.scale
            )
            grad_query[block.rows, :, block.queries] = of_query.view(q.shape)
            block.add(grad_key, of_key.view(k.shape))
            block.add(grad_value, of_value.view(v.shape))
            if of_sink is not None:
                grad_sinks += of_sink.view(q.shape[:-1]).sum((0, 2))
        of_sinks = None if sinks is None else grad_sinks.to(sinks.dtype)
        return grad_query, grad_key.to(key.dtype), grad_value.to(value.dtype), of_sinks, None, None, None


@dataclass(frozen=True, slots=True)
class _Shares:
    """The probabilities of a block's queries, and what their gradients need."""

    keys: Float[Tensor, "rows_kv_heads group_queries keys"]
    sink: Float[Tensor, "rows_kv_heads group_queries"] | None
    slope: Tensor | None
    """The soft cap's derivative at each score."""


def _gradients(
    query: Tensor, key: Tensor, value: Tensor, shares: _Shares, grad: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return the gradients of query, key and value, each as its key heads see it, and of every query's sink."""
    grad = _by_key_head(grad, key)
    grad_value = shares.keys.to(grad.dtype).transpose(1, 2) @ grad
    grad_scores = grad.float() @ _by_key_head(value, key).float().transpose(1, 2)
    mean = torch.linalg.vecdot(grad_scores, shares.keys)
    grad_sink = None if shares.sink is None else -shares.sink * mean
    grad_scores -= mean[..., None]
    grad_scores.mul_(shares.keys).mul_(scale if shares.slope is None else shares.slope * scale)
    rounded = grad_scores.to(query.dtype)
    grad_key = rounded.transpose(1, 2) @ _by_key_head(query, key)
    return rounded @ _by_key_head(key, key), grad_key, grad_value, grad_sink


def _shares(
    query: Tensor, key: Tensor, sinks: Tensor | None, hidden: Tensor, scale: float, softcap: float | None
) -> _Shares:
    scores = (_by_key_head(query, key).float() @ _by_key_head(key, key).float().transpose(1, 2)).mul_(scale)
    slope = None
    if softcap is not None:
        bent = torch.tanh(scores / softcap)
        scores, slope = bent * softcap, 1 - bent.square()
    rows, heads, queries, _ = query.shape
    scores.view(rows, heads, queries, -1).masked_fill_(hidden, -torch.inf)
    if sinks is None:
        return _Shares(scores.softmax(-1), None, slope)
    sink = sinks.float()[None, :, None].expand(rows, heads, queries).reshape(*scores.shape[:2], 1)
    together = torch.cat([scores, sink], -1).softmax(-1)
    return _Shares(together[..., :-1], together[..., -1], slope)


def _by_key_head(tensor: Tensor, key: Tensor) -> Float[Tensor, "rows_kv_heads group_inputs width"]:
    """The query heads of one key head stand below each other."""
    rows, kv_heads, _, _ = key.shape
    return tensor.reshape(rows * kv_heads, -1, tensor.shape[-1])
