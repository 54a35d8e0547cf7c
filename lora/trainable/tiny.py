"""TinyLoRA: an adapter made from a few numbers ("Learning to Reason in 13 Parameters", 2026, arXiv:2602.04118).

W' = W + B A with A = diag(s)^(1/2) V^T and B = U diag(s)^(1/2) R, where U, s and V are the largest singular values of W
and their vectors, and R = sum of v[i] P[i] over fixed random matrices P[i], of rank x rank numbers from N(0, 1/rank).
Only v is trained, and layers may share one. It is parametrised as by PEFT's `TinyLoraConfig`, and it is computed,
published and served as the LoRA of that rank that it is.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lora.config import LoraConfig
from lora.trainable.gradients import add_gradients
from lora.trainable.lora_layers import LoraLayers
from lora.trainable.named_tensors import copy_into

VECTORS = "vectors"


def num_vectors(layers: int, weight_tying: float) -> int:
    """Return how many vectors that many layers have: one each at 0, and one for all at 1."""
    return max(1, round(layers * (1 - weight_tying)))


def vector_of(layer: int, layers: int, weight_tying: float) -> int:
    """Return which of them a layer has, by its place in the model: neighbours share."""
    count = num_vectors(layers, weight_tying)
    return min(layer // max(1, layers // count), count - 1)


def singular_factors(
    weight: Float[Tensor, "d_out d_in"], rank: int
) -> tuple[Float[Tensor, "rank d_in"], Float[Tensor, "d_out rank"]]:
    """Return diag(s)^(1/2) V^T and U diag(s)^(1/2) of the largest singular values, in float32.

    They come from the eigenvectors of the smaller of W^T W and W W^T, in float64. Each pair has the sign that makes the
    largest number of its vector in V positive, so that every machine finds the same. Beyond the rank of W are zeros.
    """
    W = weight.detach().double()
    is_wide = W.shape[1] > W.shape[0]
    values, vectors = torch.linalg.eigh(W @ W.T if is_wide else W.T @ W)
    kept = min(rank, *W.shape)
    vectors = vectors[:, -kept:].flip(1)
    values = values[-kept:].flip(0).clamp(min=0)
    root = torch.where(values > values[0] * torch.finfo(values.dtype).eps * len(W), values, 0) ** 0.25
    opposite = (W.T if is_wide else W) @ vectors / torch.where(root > 0, root, torch.inf)  # of s, half is left
    V, U = (opposite, vectors * root) if is_wide else (vectors * root, opposite)
    signs = V.gather(0, V.abs().argmax(0, keepdim=True)).sign()
    padding = (0, rank - kept)
    return nn.functional.pad(V * signs, padding).T.float().contiguous(), nn.functional.pad(U * signs, padding).float()


class TinyLayers(LoraLayers):
    """A LoRA adapter whose A is fixed, and whose B are made from the vectors that are trained."""

    def __init__(self, model: nn.Module, layers: LoraLayers, lora: LoraConfig, *, seed: int) -> None:
        """Take over the adapter of that shape that is on the model; P is drawn from `seed`."""
        super().__init__(layers.slot, layers.routing)
        self.update(layers)
        device = next(iter(self.values())).lora_A.device
        groups = num_vectors(len(self), lora.weight_tying)
        self._vectors = nn.Parameter(torch.zeros(groups, lora.u, device=device))
        self._vector_of = [vector_of(i, len(self), lora.weight_tying) for i in range(len(self))]
        self._U: list[Float[Tensor, "d_out rank"]] = []
        self._P: list[Float[Tensor, "u rank rank"]] = []
        generator = torch.Generator().manual_seed(seed)
        for name, layer in self.items():
            adapted: Any = model.get_submodule(name)
            A, U = singular_factors(adapted.base.weight, lora.rank)
            kept = min(lora.rank, A.shape[1], len(U))
            P = torch.zeros(lora.u, lora.rank, lora.rank)
            P[:, :kept, :kept] = torch.randn(lora.u, kept, kept, generator=generator) / kept**0.5
            layer.lora_A.requires_grad_(False)
            layer.lora_A.data.copy_(A)
            self._U.append(U.to(device))
            self._P.append(P.to(device))
        self.sync()

    def tensors(self) -> dict[str, Tensor]:
        """Return what is trained: float32[vectors, u]."""
        return {VECTORS: self._vectors}

    def fixed(self) -> dict[str, Tensor]:
        """Return the factors, by layer: `NAME.A` [rank, d_in], `NAME.U` [d_out, rank] and `NAME.P` [u, rank, rank].

        A state has them, so that a machine that would find others goes on with the same policy.
        """
        named: dict[str, Tensor] = {}
        for (name, layer), U, P in zip(self.items(), self._U, self._P, strict=True):
            named |= {f"{name}.A": layer.lora_A, f"{name}.U": U, f"{name}.P": P}
        return named

    def leaves(self) -> list[Tensor]:
        """Return every layer's B, through which gradients reach the vectors."""
        return [layer.lora_B for layer in self.values()]

    def accumulate(self, gradients: Sequence[Tensor | None]) -> None:
        """Add to the vectors' gradients those of the layers' B; None is nothing to add."""
        total = torch.zeros_like(self._vectors)
        for i, gradient in enumerate(gradients):
            if gradient is not None:
                of_R = self._U[i].T @ gradient.float()
                total[self._vector_of[i]] += torch.einsum("ujk,jk->u", self._P[i], of_R)
        add_gradients([self._vectors], [total])

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Copy vectors and factors, named as in `tensors` and `fixed`, and compute with them. Raises as LoRA's does."""
        copy_into({**self.tensors(), **self.fixed()}, tensors)
        self.sync()

    @torch.no_grad()
    def sync(self) -> None:
        """Make every layer's B from the vectors."""
        for i, layer in enumerate(self.values()):
            R = torch.einsum("u,ujk->jk", self._vectors[self._vector_of[i]], self._P[i])
            layer.lora_B.copy_(self._U[i] @ R)
