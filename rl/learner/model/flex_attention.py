"""Attention over joined rows by torch's FlexAttention: only blocks of keys that a query sees are computed.

It is compiled once for all lengths. Grouped heads need no copies of keys and values, and what is kept for the gradient
is queries, keys, values, the output and a number a query: memory is linear in inputs.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import flex_attention as flex
from torch.nn.attention.flex_attention import BlockMask


def flex_attention(
    query: Float[Tensor, "1 heads inputs width"],
    key: Float[Tensor, "1 kv_heads inputs width"],
    value: Float[Tensor, "1 kv_heads inputs width"],
    mask: BlockMask,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Float[Tensor, " heads"] | None = None,
) -> Float[Tensor, "1 inputs heads width"]:
    """Return softmax(cap tanh(q k^T scale / cap), where seen) v; `scale` is 1 / sqrt(width) if it is not given.

    A head's sink is the score of one more key, without a value: it leaves the others the share sigmoid(lse - sink), of
    the logarithm lse of the sum of their exponentials.
    """
    joins_graph = query.device.type != "cuda" or torch.compiler.is_compiling()
    attend = flex.flex_attention if joins_graph else _compiled()
    bend = None if softcap is None else _capped(softcap, query.device)
    arguments: dict[str, Any] = {"score_mod": bend, "block_mask": mask, "scale": scale, "enable_gqa": True}
    if sinks is None:
        return attend(query, key, value, **arguments).transpose(1, 2)
    out, aux = attend(query, key, value, **arguments, return_aux=flex.AuxRequest(lse=True))
    assert aux.lse is not None, "it was asked for"
    share = torch.sigmoid(aux.lse - sinks.float()[:, None])[..., None]
    return (out * share).to(out.dtype).transpose(1, 2)


@lru_cache(1)
def _compiled() -> Any:
    """The kernel for lengths of all kinds."""
    return torch.compile(flex.flex_attention, dynamic=True)


@lru_cache(8)
def _capped(cap: float, device: torch.device) -> Callable[..., Tensor]:
    # As a tensor: a number of Python's would be compiled in, and another one's graph cannot be traced (torch 2.13).
    limit = torch.tensor(cap, device=device)

    def bend(score: Tensor, *_where: Tensor) -> Tensor:
        return limit * torch.tanh(score / limit)

    return bend
