"""A policy's state as bytes: its trained numbers, its optimizer's, and what whoever takes it up must know of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from lora.files.packed import pack_tensors, unpack_tensors
from lora.peft.description import Description

ADAM = "adam."
"""The optimizer's tensors have names that begin so."""


@dataclass(frozen=True, slots=True)
class StateFacts:
    """The facts in a state's header."""

    run: str
    version: int
    """Number of steps that were taken."""
    description: Description | None = None
    """The adapter's base model, rank, alpha and layers; None where the state was not a policy's yet."""
    has_moments: bool = False
    """True if the optimizer's moments are in it: not before the first step, nor in `weights_only_state`."""


def state_facts(state: bytes) -> StateFacts:
    """Return a state's facts. Raises ValueError if it is damaged, or no policy's."""
    return unpack_state(state)[0]


def first_state(run: str, tensors: Mapping[str, Tensor]) -> bytes:
    """The state of a policy that was not trained yet and begins from an adapter's `tensors`."""
    return pack_state(StateFacts(run, 0), tensors)


def weights_only_state(state: bytes) -> bytes:
    """Return a state without the optimizer's moments. Raises ValueError if it is damaged, or no policy's."""
    facts, tensors = unpack_state(state)
    return pack_state(facts, {name: tensor for name, tensor in tensors.items() if not name.startswith(ADAM)})


def pack_state(facts: StateFacts, tensors: Mapping[str, Tensor]) -> bytes:
    """Return a safetensors file with the facts in its header."""
    header: dict[str, Any] = {"run": facts.run, "version": facts.version}
    if facts.description is not None:
        header["adapter"] = asdict(facts.description)
    detached = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return pack_tensors(detached, "policy", header)


def unpack_state(state: bytes) -> tuple[StateFacts, dict[str, Tensor]]:
    """Take apart what `pack_state` made. Raises ValueError if it is damaged, or no policy's."""
    tensors, header = unpack_tensors(state, "policy")
    run, version, adapter = (header.get(key) for key in ("run", "version", "adapter"))
    if not isinstance(run, str) or not isinstance(version, int) or not isinstance(adapter, dict | None):
        raise ValueError("a policy's state does not say which run's and which version it is")
    has_moments = any(name.startswith(ADAM) for name in tensors)
    description = None if adapter is None else Description.from_facts(adapter)
    return StateFacts(run, version, description, has_moments), tensors
