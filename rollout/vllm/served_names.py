"""An adapter as vLLM's class of a model takes it, where that names or divides layers otherwise than transformers."""

from collections.abc import Collection, Generator, Mapping
from dataclasses import replace

from torch import Tensor

from lora.peft.files import pack, unpack
from lora.types import Adapter

RENAMED: Mapping[str, tuple[str, str]] = {"mixtral": (".mlp.experts", ".block_sparse_moe.experts")}
"""By `model_type`: a part of modules' names in transformers, and in vLLM, which would leave such an adapter out."""
DIVIDED: Mapping[str, tuple[str, tuple[str, ...]]] = {"glm4": ("gate_up_proj", ("gate_proj", "up_proj"))}
"""By `model_type`: a layer that is one in transformers, and the parts of equal size that vLLM takes adapters of."""
UNADAPTED: Collection[str] = {"gpt_oss"}
"""Types whose experts no learner of ours adapts, as they have biases; another tool's adapter of them is not known."""


def as_served(adapter: Adapter, model_type: str) -> Adapter:
    """Return an adapter that computes the same in vLLM's class of that type of model; most often it is the same one.

    Raises:
        ValueError: it adapts experts whose adapters would be left out, or taken for others.
    """
    if model_type in UNADAPTED and unpack(adapter.payload)[1].expert_rank is not None:
        raise ValueError(f"adapters on the experts of {model_type} cannot be served: train it without them")
    if model_type not in RENAMED and model_type not in DIVIDED:
        return adapter
    tensors, description = unpack(adapter.payload)
    if model_type in RENAMED:
        here, in_vllm = RENAMED[model_type]
        tensors = {name.replace(here, in_vllm): tensor for name, tensor in tensors.items()}
    if model_type in DIVIDED:
        whole, parts = DIVIDED[model_type]
        tensors = dict(piece for name, tensor in tensors.items() for piece in _pieces(name, tensor, whole, parts))
        targets = [part for target in description.targets for part in (parts if target == whole else (target,))]
        description = replace(description, targets=tuple(targets))
    return Adapter(adapter.run, adapter.version, pack(tensors, description))


def _pieces(name: str, tensor: Tensor, whole: str, parts: tuple[str, ...]) -> Generator[tuple[str, Tensor]]:
    """Yield a tensor of a layer for each of its parts: they share A, and each has its rows of B."""
    if f".{whole}." not in name:
        yield name, tensor
        return
    pieces = tensor.chunk(len(parts)) if name.endswith("lora_B") else (tensor,) * len(parts)
    for part, piece in zip(parts, pieces, strict=True):
        yield name.replace(f".{whole}.", f".{part}."), piece.clone()
