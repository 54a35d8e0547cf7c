"""LoRA products for vLLM on a CPU: two dense products for all slices of a layer and all adapters of a batch.

vLLM's own CPU operators gather a copy of the adapter's matrices for every token. Here the matrices of a layer lie side
by side, those of its slices (q, k and v; gate and up) and those of every adapter that is loaded: one product with all
of A, one with all of B. Where a batch holds several adapters, a mask keeps of the first what is a row's own.
It plugs in where the platform names its wrapper class (`get_punica_wrapper`).
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms import current_platform

from rollout.vllm.patches.joined_lora import join


def install() -> None:
    """Make vLLM use `DenseLoraCPU` in this process."""
    name = f"{DenseLoraCPU.__module__}.{DenseLoraCPU.__qualname__}"
    type(current_platform).get_punica_wrapper = classmethod(lambda cls: name)  # pyright: ignore[reportAttributeAccessIssue]


class DenseLoraCPU(PunicaWrapperCPU):
    """Multiplies all rows at once, in the activations' precision, with sums accumulated in float32."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tokens = Rows.of(torch.empty(0, dtype=torch.long))
        self._samples = self._tokens
        self._layers: dict[int, Layer] = {}

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """Note, once a batch, which rows belong to which adapter."""
        super().update_metadata(*args, **kwargs)
        self._tokens = Rows.of(self.token_lora_indices)
        self._samples = Rows.of(self.sampler_indices)

    @contextmanager
    def logits_with_adapter_of(self, token: int) -> Generator[None]:
        """Give all rows of logits the adapter that this token of the batch has."""
        samples, self._samples = self._samples, Rows.of(self.token_lora_indices[token : token + 1])
        try:
            yield
        finally:
            self._samples = samples

    def add_lora_linear(
        self,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: tuple[Tensor, ...],
        lora_b_stacked: tuple[Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        **_: Any,
    ) -> None:
        """Add x[rows] A^T B^T scale to y[rows, slice], for every slice of a fused layer and every adapter."""
        layer = self._layers.get(id(lora_a_stacked))
        if layer is None:
            # The layer keeps its tuples for as long as it lives, and `Layer` keeps them too: the id stays theirs.
            layer = self._layers[id(lora_a_stacked)] = Layer(lora_a_stacked, lora_b_stacked)
        layer.add(y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1]), scale, self._tokens)

    def add_lora_logits(
        self, y: Tensor, x: Tensor, lora_a_stacked: Tensor, lora_b_stacked: Tensor, scale: float, **_: Any
    ) -> None:
        """Do the same for an adapted output layer. vLLM calls it for every adapter; most leave that layer as it is."""
        x, y = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        slots = self._samples.slots
        # One pass over B, [slots, 1, vocabulary, rank], instead of a product with as much for every row.
        if not lora_b_stacked[slots].any():
            return
        A, B = lora_a_stacked[slots, 0].flatten(0, 1), lora_b_stacked[slots, 0].transpose(1, 2).flatten(0, 1)
        _add(y, x, A, B, scale, self._samples)


class Rows:
    """The adapter of each of a batch's rows, as slots and as masks."""

    def __init__(self, slots: slice, owned: Bool[Tensor, "rows slots"] | None) -> None:
        self.slots = slots
        """The adapters' slots, from the first to the last one in use; empty where no row has an adapter."""
        self._owned = owned
        """True where a row is that slot's; None where every row is that of one adapter."""
        self._masks: dict[tuple[int, torch.dtype], Tensor] = {}

    @classmethod
    def of(cls, indices: Int[Tensor, " rows"]) -> Self:
        """Sort rows by their slots. A slot below 0 means the base model alone: nothing to add."""
        if not len(indices):
            return cls(slice(0, 0), None)
        low, high = (int(bound) for bound in indices.aminmax())
        if low == high:  # one adapter, or none, in the whole batch, as in most runs: no mask is needed
            return cls(slice(low, high + 1) if low >= 0 else slice(0, 0), None)
        used = indices[indices >= 0]
        slots = slice(int(used.min()), high + 1)
        return cls(slots, indices[:, None] == torch.arange(slots.start, slots.stop, device=indices.device))

    def mask(self, width: int, dtype: torch.dtype) -> Tensor | None:
        """Return [rows, slots * width] of ones and zeros, `width` columns an adapter; None where all would be ones."""
        if self._owned is None:
            return None
        if (width, dtype) not in self._masks:
            self._masks[width, dtype] = self._owned.repeat_interleave(width, dim=1).to(dtype)
        return self._masks[width, dtype]


class Layer:
    """The matrices of every adapter in one linear layer, its slices beside each other (see `joined_lora`)."""

    def __init__(self, a_stacked: tuple[Tensor, ...], b_stacked: tuple[Tensor, ...]) -> None:
        self._A, self._B = join(a_stacked, b_stacked)
        self._stacked = a_stacked, b_stacked

    def add(self, y: Float[Tensor, "rows d_out"], x: Float[Tensor, "rows d_in"], scale: float, rows: Rows) -> None:
        """Add x A^T B scale of each row's own adapter to y."""
        _add(y, x, self._A[rows.slots].flatten(0, 1), self._B[rows.slots].flatten(0, 1), scale, rows)


def _add(y: Tensor, x: Tensor, A: Tensor, B: Tensor, scale: float, rows: Rows) -> None:
    """Add x A^T B scale to y, with x [rows, d_in], A [slots * rank, d_in], B [slots * rank, d_out] and y [rows, d_out].

    Rows of x and y may be padded to different lengths, and so may the vocabulary: the shorter one counts. x A^T is
    rounded to the activations' precision, as it is in the learner; the sum is accumulated in float32.
    """
    if not len(A):
        return
    count, width = min(len(x), len(y)), min(B.shape[1], y.shape[1])
    shrunk = x[:count] @ A.T
    mask = rows.mask(len(A) // (rows.slots.stop - rows.slots.start), x.dtype)
    if mask is not None:  # each row was multiplied with every adapter's A, and keeps only its own adapter's result
        count = min(count, len(mask))
        shrunk = shrunk[:count] * mask[:count]
    if y.dtype == shrunk.dtype:
        y[:count, :width].addmm_(shrunk, B[:, :width], alpha=scale)
    else:  # logits, which stay float32
        y[:count, :width].add_(shrunk @ B[:, :width], alpha=scale)
