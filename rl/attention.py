"""Attention over packed rows on a CPU: scores of a whole row at once, or a few, computed anew for the gradient.

torch's own CPU kernel takes several times as long to go back through short rows with a mask, and saves no more: what is
kept here, too, is queries, keys and values. On a GPU, and for rows whose scores would be large, torch's kernel is used.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

NAME = "rankone_packed"
LONGEST = 1024
"""Inputs of a row whose scores, [heads, inputs, inputs] in float32, are still made at once."""
SCORES_AT_ONCE = 2**20
"""Of several rows, beyond that of one: few, so that the passes over them stay near a core's cache."""


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
    value: Float[Tensor, "rows kv_heads inputs width"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    **more: Any,
) -> tuple[Float[Tensor, "rows inputs heads width"], None]:
    """What transformers asks of an attention; `attention_mask` is bool, [rows, 1, inputs, inputs]."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    inputs = query.shape[2]
    if softcap is None and (attention_mask is None or inputs > LONGEST or query.device.type != "cpu"):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **more
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if attention_mask is None:
        attention_mask = torch.ones(1, 1, inputs, inputs, dtype=torch.bool, device=query.device).tril()
    bias = torch.zeros((), device=query.device).where(attention_mask, -torch.inf).expand(len(query), -1, -1, -1)
    out: Tensor = _PackedAttention.apply(query, key, value, bias, scale, softcap)  # pyright: ignore[reportAssignmentType]
    return out.transpose(1, 2), None


class _PackedAttention(torch.autograd.Function):
    """softmax(cap tanh(q k^T scale / cap) + bias) v, several query heads to a key head.

    Scores and their gradient are float32; probabilities are rounded to the inputs' type where they multiply, as in the
    usual GPU kernels.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float, softcap: float | None
    ) -> Tensor:
        ctx.save_for_backward(query, key, value, bias)
        ctx.scale, ctx.softcap = scale, softcap
        out = torch.empty_like(query)
        for some in _rows_at_once(query):
            probabilities, _ = _probabilities(query[some], key[some], bias[some], scale, softcap)
            mixed = probabilities.to(value.dtype) @ _by_key_head(value[some], key[some])
            out[some] = mixed.view(out[some].shape)
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        query, key, value, bias = ctx.saved_tensors
        grads = [torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)]
        for some in _rows_at_once(query):
            found = _gradients(
                query[some], key[some], value[some], bias[some], grad_outputs[0][some], ctx.scale, ctx.softcap
            )
            for grad, part in zip(grads, found, strict=True):
                grad[some] = part.view(grad[some].shape)
        return grads[0], grads[1], grads[2], None, None, None


def _rows_at_once(query: Tensor) -> list[slice]:
    rows, heads, inputs, _ = query.shape
    count = max(1, SCORES_AT_ONCE // (heads * inputs**2))
    return [slice(start, start + count) for start in range(0, rows, count)]


def _gradients(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, grad: Tensor, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Of query, key and value, each as its key heads see it."""
    probabilities, slope = _probabilities(query, key, bias, scale, softcap)
    grad = _by_key_head(grad, key)
    grad_value = probabilities.to(grad.dtype).transpose(1, 2) @ grad
    grad_scores = grad.float() @ _by_key_head(value, key).float().transpose(1, 2)
    grad_scores -= torch.linalg.vecdot(grad_scores, probabilities)[..., None]
    grad_scores.mul_(probabilities).mul_(scale if slope is None else slope * scale)
    rounded = grad_scores.to(query.dtype)
    return rounded @ _by_key_head(key, key), rounded.transpose(1, 2) @ _by_key_head(query, key), grad_value


def _probabilities(
    query: Tensor, key: Tensor, bias: Tensor, scale: float, softcap: float | None
) -> tuple[Float[Tensor, "rows_kv_heads group_inputs inputs"], Tensor | None]:
    """And, with a soft cap, its derivative."""
    scores = (_by_key_head(query, key).float() @ _by_key_head(key, key).float().transpose(1, 2)).mul_(scale)
    slope = None
    if softcap is not None:
        bent = torch.tanh(scores / softcap)
        scores, slope = bent * softcap, 1 - bent.square()
    rows, heads, inputs, _ = query.shape
    scores.view(rows, heads, inputs, inputs).add_(bias)
    return scores.softmax(-1), slope


def _by_key_head(tensor: Tensor, key: Tensor) -> Float[Tensor, "rows_kv_heads group_inputs width"]:
    """The query heads of one key head stand below each other."""
    rows, kv_heads, _, width = key.shape
    return tensor.reshape(rows * kv_heads, -1, width)
