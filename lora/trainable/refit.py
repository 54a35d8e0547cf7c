"""An adapter in another adapter's shape: of another rank, another alpha, or on more layers, with the same product."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lora.config import LoraConfig
from lora.layers.experts import EXPERT_LAYERS
from lora.peft.description import Description

Tensors = Mapping[str, Tensor]
Pair = tuple[Float[Tensor, "rank d_in"], Float[Tensor, "d_out rank"]]
"""A and B of one layer."""


@dataclass(frozen=True, slots=True)
class LayerError:
    """The part of a layer's product that a cut to a lower rank lost.

    Example: ``LayerError("model.layers.0.mlp.up_proj", lost=0.3, whole=2.0)``
    """

    layer: str
    lost: float
    """Frobenius norm of the difference."""
    whole: float
    """Frobenius norm of the product before."""

    @property
    def relative(self) -> float:
        return self.lost / self.whole if self.whole else 0.0


@dataclass(frozen=True, slots=True)
class Refit:
    """An adapter's tensors in their new shape, in float32, and what was lost on the way."""

    tensors: dict[str, Tensor]
    errors: tuple[LayerError, ...]
    """One for each layer that was cut to a lower rank; none where the products are the same."""

    @property
    def error(self) -> float:
        """The relative Frobenius error of all layers' products together."""
        whole = math.hypot(*(layer.whole for layer in self.errors))
        return math.hypot(*(layer.lost for layer in self.errors)) / whole if whole else 0.0

    @property
    def worst(self) -> LayerError | None:
        """The layer with the largest relative error."""
        return max(self.errors, key=lambda layer: layer.relative, default=None)


def refit(tensors: Tensors, description: Description, lora: LoraConfig, fresh: Tensors) -> Refit:
    """Return the adapter as `lora` has it; `fresh` is one of that shape, whose A fills rows that the adapter lacks.

    Where the rank is not lower, every product scale B A stays what it was: a rank that is not there yet gets the fresh
    rows of A and zeros in B, so that it learns from the first step on. To a lower rank, each is cut to the nearest one.

    Raises:
        ValueError: experts have another rank, of which only the same can be taken over.
    """
    refitted, errors = dict(fresh), list[LayerError]()
    for layer in layers_of(fresh):
        names = (f"{layer}.lora_A", f"{layer}.lora_B")
        if names[0] not in tensors:
            continue
        pair, fresh_pair = (_pair(source, names) for source in (tensors, fresh))
        if layer.rpartition(".")[2] in EXPERT_LAYERS:
            _check_expert_rank(pair, fresh_pair, description)
            ratio = description.alpha / lora.alpha
        else:
            ratio = (description.alpha / description.rank) / (lora.alpha / lora.rank)
            pair = _without_padding(pair)
        scaled = (pair[0], pair[1] * ratio)
        rank, new_rank = len(pair[0]), len(fresh_pair[0])
        if rank > new_rank:
            scaled, lost, whole = _cut(scaled, new_rank)
            scale = lora.alpha / lora.rank
            errors.append(LayerError(layer, lost * scale, whole * scale))
        refitted |= zip(names, (part.float() for part in _padded(scaled, fresh_pair)), strict=True)
    return Refit(refitted, tuple(errors))


def layers_of(tensors: Iterable[str]) -> list[str]:
    """Return the names of the layers that an adapter has tensors for."""
    return list(dict.fromkeys(name.rpartition(".")[0] for name in tensors))


def _pair(tensors: Tensors, names: tuple[str, str]) -> Pair:
    A, B = (tensors[name].detach().double() for name in names)
    return A, B


def _without_padding(pair: Pair) -> Pair:
    """Leave out last ranks that are zeros in both A and B, as an adapter has that was of a lower rank in this layer."""
    A, B = pair
    (used,) = torch.nonzero(A.any(dim=1) | B.any(dim=0), as_tuple=True)
    rank = int(used.max()) + 1 if len(used) else 0
    return A[:rank], B[:, :rank]


def _check_expert_rank(pair: Pair, fresh: Pair, description: Description) -> None:
    """Raises ValueError if experts would have to change their rank."""
    if pair[0].shape != fresh[0].shape:
        raise ValueError(
            f"its experts' A has {len(pair[0])} rows, where {len(fresh[0])} are needed, and the rank of experts cannot "
            f"be changed; set lora.rank = {description.rank}"
        )


def _padded(pair: Pair, fresh: Pair) -> Pair:
    """Return the same product at the rank of `fresh`.

    Rows of zeros in A would stay as they are: beside zeros in B they have no gradient, nor has that B.
    """
    rank = len(pair[0])
    return torch.cat([pair[0], fresh[0][rank:]]), torch.cat([pair[1], fresh[1][:, rank:]], dim=1)


def _cut(pair: Pair, rank: int) -> tuple[Pair, float, float]:
    """Return the nearest product of at most that rank, the norm of its difference from B A, and the norm of B A.

    B A = Q_B (R_B R_A^T) Q_A^T, so the singular values are those of the small matrix in the middle (Eckart and Young:
    the largest ones are the best approximation). Those that are zero but for rounding are left out.
    """
    A, B = pair
    Q_B, R_B = torch.linalg.qr(B)
    Q_A, R_A = torch.linalg.qr(A.T)
    U, sigma, Vh = torch.linalg.svd(R_B @ R_A.T)
    rounding = max(len(B), A.shape[1]) * torch.finfo(sigma.dtype).eps * sigma.max()
    sigma = torch.where(sigma > rounding, sigma, 0)
    kept = min(rank, int(sigma.count_nonzero()))
    root = sigma[:kept].sqrt()
    nearest = (root[:, None] * (Vh[:kept] @ Q_A.T), (Q_B @ U[:, :kept]) * root)
    return nearest, sigma[kept:].norm().item(), sigma.norm().item()
