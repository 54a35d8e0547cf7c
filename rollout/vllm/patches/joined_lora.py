"""The matrices of every loaded adapter in one linear layer of vLLM's, beside each other in two tensors."""

import torch
from jaxtyping import Float
from torch import Tensor

A_Matrices = Float[Tensor, "slots ranks d_in"]
B_Matrices = Float[Tensor, "slots ranks d_out"]


@torch.inference_mode(False)  # vLLM writes adapters outside of it, which inference tensors would refuse
def join(
    a_stacked: tuple[Tensor, ...], b_stacked: tuple[Tensor, ...], *, multiple: int = 1
) -> tuple[A_Matrices, B_Matrices]:
    """Move vLLM's tensors, [slots, 1, rank, d_in] and [slots, 1, d_out, rank] a slice, into common ones.

    With R the ranks of all slices together (q, k and v; gate and up), A is [slots, R, d_in] and B [slots, R, d_out]; B
    has zeros where a slice's rank meets another slice's output, so one product with each computes them all. vLLM's
    tensors become views of these, so that an adapter which it copies into its own from now on is in A and B at once.
    Behind the rows of A and B lie zeros up to a multiple of `multiple` rows.
    """
    slots, ranks = len(a_stacked[0]), sum(a.shape[2] for a in a_stacked)
    A = _zeros(a_stacked[0], slots, ranks, a_stacked[0].shape[3], multiple)
    B = _zeros(b_stacked[0], slots, ranks, sum(b.shape[2] for b in b_stacked), multiple)
    rank, out = 0, 0
    for a, b in zip(a_stacked, b_stacked, strict=True):
        a_view = A[:, None, rank : rank + a.shape[2]]
        b_view = B[:, None, rank : rank + a.shape[2], out : out + b.shape[2]].transpose(2, 3)
        a.data, b.data = a_view.copy_(a), b_view.copy_(b)
        rank, out = rank + a.shape[2], out + b.shape[2]
    return A, B


def padded(joined: Float[Tensor, "slots ranks width"], multiple: int) -> Float[Tensor, "rows width"]:
    """Return the rows of all slots, and the zeros behind them."""
    slots, ranks, width = joined.shape
    return joined.as_strided((-(-slots * ranks // multiple) * multiple, width), (width, 1))


def _zeros(like: Tensor, slots: int, ranks: int, width: int, multiple: int) -> Tensor:
    rows = -(-slots * ranks // multiple) * multiple
    return like.new_zeros(rows, width)[: slots * ranks].view(slots, ranks, width)
