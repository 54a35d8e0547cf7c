"""Put adapters on a base model: swap its linear layers for `LoraLinear`, and fail if a target matches nothing."""

from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from lora.config import LoraConfig
from lora.experts import PROJECTIONS, ExpertsLowRank, LoraExperts, active_experts, expert_rank, is_experts
from lora.layer import LoraLinear, LowRank, Routing


class LoraLayers(dict[str, LowRank | ExpertsLowRank]):
    """One adapter's part of each layer that it adapts, by module name, in the model's order; experts come last."""

    def __init__(self, slot: int, routing: Routing) -> None:
        super().__init__()
        self.slot = slot
        self.routing = routing
        self.expert_rank: int | None = None
        """Of each expert's adapter, where the model has experts and they are adapted."""

    def tensors(self) -> dict[str, Tensor]:
        """The trainable tensors: `NAME.lora_A` of shape [rank, d_in] and `NAME.lora_B` of shape [d_out, rank]."""
        named: dict[str, Tensor] = {}
        for name, layer in self.items():
            named[f"{name}.lora_A"], named[f"{name}.lora_B"] = layer.lora_A, layer.lora_B
        return named

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Copy `tensors`, named as `tensors()` names them, into the layers.

        Raises:
            ValueError: a name or a shape does not fit this model.
        """
        mine = self.tensors()
        if missing := sorted(mine.keys() ^ tensors.keys()):
            raise ValueError(f"the adapter and the model do not have the same layers: {missing[0]} is in one only")
        with torch.no_grad():
            for name, mine_tensor in mine.items():
                if mine_tensor.shape != tensors[name].shape:
                    have, want = list(tensors[name].shape), list(mine_tensor.shape)
                    raise ValueError(f"{name} of the adapter has shape {have}, the model needs {want}")
                mine_tensor.copy_(tensors[name])

    def sync(self) -> None:
        """Nothing to do: the layers compute with the tensors themselves."""

    @contextmanager
    def replaced(self, tensors: dict[str, Tensor]) -> Generator[None]:
        """Another adapter of the same shape, inside the block. Raises ValueError as `load` does."""
        mine = {name: tensor.detach().clone() for name, tensor in self.tensors().items()}
        try:
            self.load(tensors)
            yield
        finally:
            self.load(mine)

    @contextmanager
    def alone(self) -> Generator[None]:
        """Every row of a batch uses this adapter, inside the block."""
        with _routed(self.routing, ((self.slot, None),)):
            yield

    @contextmanager
    def disabled(self) -> Generator[None]:
        """The base model alone, inside the block."""
        with _routed(self.routing, ()):
            yield


@contextmanager
def routed(segments: Sequence[tuple[LoraLayers, slice]]) -> Generator[None]:
    """Each adapter has its rows of a batch, inside the block; rows of none are the base model's."""
    assert segments
    with _routed(segments[0][0].routing, tuple((layers.slot, rows) for layers, rows in segments)):
        yield


def inject(model: nn.Module, config: LoraConfig, *, seed: int = 0) -> LoraLayers:
    """Freeze `model` and adapt its target layers in place; called again, it puts another adapter beside those there.

    The model computes with the newest adapter until `alone`, `routed` or `disabled` says otherwise.

    Raises:
        ValueError: a target names no linear layer of the model.
    """
    found, experts = _linears(model), _experts(model)
    targets = (*config.targets, "lm_head") if config.lm_head else config.targets
    matched = {name: layer for name, layer in found.items() if name.rpartition(".")[2] in targets}
    wanted = experts if wants_experts(config, experts) else {}
    leaves = {name.rpartition(".")[2] for name in matched} | (set(PROJECTIONS) if wanted else set())
    if unmatched := [target for target in targets if target not in leaves]:
        present = ", ".join(sorted({name.rpartition(".")[2] for name in found}))
        raise ValueError(f"lora.targets names {', '.join(unmatched)}, but the model's linear layers are: {present}")
    adapted = [layer for layer in (*found.values(), *experts.values()) if isinstance(layer, LoraLinear | LoraExperts)]
    if not adapted:
        model.requires_grad_(False)
    routing = adapted[0].routing if adapted else Routing()
    taken = {int(slot) for layer in adapted for slot in layer.slots}
    layers = LoraLayers(next(slot for slot in range(len(taken) + 1) if slot not in taken), routing)
    generator = torch.Generator().manual_seed(seed)
    for name, layer in matched.items():
        if not isinstance(layer, LoraLinear):
            layer = _wrap(model, name, layer, routing)
        layers[name] = LowRank(layer.base, config.rank, config.alpha, generator)
        layer.slots[str(layers.slot)] = layers[name]
    if wanted:
        layers.expert_rank = expert_rank(config.rank, active_experts(cast(Any, model).config))
        for name, module in wanted.items():
            wrapped = module if isinstance(module, LoraExperts) else _wrap_experts(model, name, module, routing)
            pair = wrapped.new_slot(layers.slot, layers.expert_rank, config.alpha, generator)
            layers[f"{name}.base_layer"], layers[name] = pair.gate_up, pair.down  # PEFT's names
    routing.segments = ((layers.slot, None),)
    return layers


def eject(model: nn.Module, layers: LoraLayers) -> None:
    """Take an adapter off the model again; the wrapped layers stay."""
    for layer in model.modules():
        if isinstance(layer, LoraLinear | LoraExperts) and str(layers.slot) in layer.slots:
            del layer.slots[str(layers.slot)]


def wants_experts(config: LoraConfig, experts: Collection[object]) -> bool:
    """Whether `config` adapts a model's experts, if there are any.

    Raises:
        ValueError: it names a part of what they do, and their weights are stacked.
    """
    named = [target for target in config.targets if target in PROJECTIONS]
    if experts and named and len(named) < len(PROJECTIONS):
        raise ValueError(
            f"lora.targets names {' and '.join(named)}, and this model's experts are adapted whole: name all of "
            f"{', '.join(PROJECTIONS)}, or none"
        )
    return bool(experts) and bool(named)


def _wrap(model: nn.Module, name: str, linear: nn.Linear, routing: Routing) -> LoraLinear:
    parent, _, leaf = name.rpartition(".")
    wrapped = LoraLinear(linear, routing)
    setattr(model.get_submodule(parent), leaf, wrapped)
    return wrapped


def _wrap_experts(model: nn.Module, name: str, experts: nn.Module, routing: Routing) -> LoraExperts:
    """Base and adapted experts must compute alike to the last bit: one expert after another."""
    cast(Any, model).set_experts_implementation("eager")
    wrapped = LoraExperts(experts, routing)
    parent, _, leaf = name.rpartition(".")
    block = model.get_submodule(parent)
    block.register_forward_pre_hook(wrapped.note_rows, with_kwargs=True)
    setattr(block, leaf, wrapped)
    return wrapped


def _experts(model: nn.Module) -> dict[str, nn.Module]:
    """The layers' experts by name, as they are or wrapped."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, LoraExperts)}
    wrapped = {id(module.base_layer) for module in found.values()}
    plain = {n: m for n, m in model.named_modules() if is_experts(m) and id(m) not in wrapped}
    return {**found, **plain}


def _linears(model: nn.Module) -> dict[str, nn.Linear | LoraLinear]:
    """Linear layers by name, as they are or wrapped; those inside a `LoraLinear` left out."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | LoraLinear)}
    inside = tuple(f"{name}." for name, module in found.items() if isinstance(module, LoraLinear))
    return {name: module for name, module in found.items() if not name.startswith(inside or ("\0",))}


@contextmanager
def _routed(routing: Routing, segments: tuple[tuple[int, slice | None], ...]) -> Generator[None]:
    before = routing.segments
    routing.segments = segments
    try:
        yield
    finally:
        routing.segments = before
