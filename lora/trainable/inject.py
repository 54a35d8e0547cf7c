"""Put adapters on a base model: swap its linear layers for `LoraLinear`, and fail if a target matches nothing."""

import contextlib
from typing import Any, cast

import torch
from torch import Tensor, nn

from lora.base.architecture import KNOWN, UnsupportedModel, check_linears, is_linear, reads_text
from lora.base.targets import wants_experts
from lora.config import LoraConfig
from lora.layers.experts import (
    PROJECTIONS,
    ExpertsPair,
    LoraExperts,
    active_experts,
    expert_rank,
    is_experts,
)
from lora.layers.linear import LoraLinear, LowRank, NotCalled, fresh_A
from lora.layers.routing import Route, Routing, routing_of
from lora.trainable.lora_layers import LoraLayers


def inject(model: nn.Module, config: LoraConfig, *, seed: int = 0) -> LoraLayers:
    """Freeze `model` and adapt its target layers in place; called again, it puts another adapter beside those there.

    The model computes with its only adapter until `exclusively`, `routed` or `disabled` says otherwise. Where there are
    several, one of these must say which.

    Raises:
        ValueError: a target names no linear layer of the model, or one that is more than linear.
    """
    matched, matched_experts = _match_targets(model, config)
    taken = _taken_slots(model)
    if not taken:
        model.requires_grad_(False)
    layers = LoraLayers(next(slot for slot in range(len(taken) + 1) if slot not in taken), routing_of(model))
    generator = torch.Generator().manual_seed(seed)
    for name, layer in matched.items():
        layers[name] = _adapt(model, name, layer, layers, config, generator)
    if matched_experts:
        layers.expert_rank = expert_rank(config.rank, active_experts(cast(Any, model).config))
        for name, module in matched_experts.items():
            pair = _adapt_experts(model, name, module, layers, config, generator)
            layers[f"{name}.base_layer"], layers[name] = pair.gate_up, pair.down  # PEFT's names
    layers.routing.reset(None if taken else Route(((layers.slot, None),)))
    return layers


def fresh_tensors(skeleton: nn.Module, config: LoraConfig, *, seed: int) -> dict[str, Tensor]:
    """Return the tensors that `inject` begins with on the whole model, from one without weights, which is changed.

    Raises:
        ValueError: as `inject`.
    """
    generator, cpu = torch.Generator().manual_seed(seed), torch.device("cpu")
    return {
        name: fresh_A(len(tensor), tensor.shape[1], cpu, generator)
        if name.endswith("lora_A")
        else torch.zeros(tensor.shape)
        for name, tensor in inject(skeleton, config).tensors().items()
    }


def _match_targets(
    model: nn.Module, config: LoraConfig
) -> tuple[dict[str, nn.Linear | LoraLinear], dict[str, nn.Module]]:
    """Return the linear layers and the experts that the configuration adapts, by name. Raises as `inject` does."""
    linears, experts = _linears(model), _experts(model)
    targets = config.all_targets
    check_linears(model, targets)
    matched = {name: layer for name, layer in linears.items() if name.rpartition(".")[2] in targets}
    matched_experts = experts if wants_experts(config, experts) else {}
    leaves = {name.rpartition(".")[2] for name in matched} | (set(PROJECTIONS) if matched_experts else set())
    if unmatched := [target for target in targets if target not in leaves]:
        present = ", ".join(sorted({name.rpartition(".")[2] for name in linears}))
        raise ValueError(f"lora.targets names {', '.join(unmatched)}, but the model's linear layers are: {present}")
    return matched, matched_experts


def _taken_slots(model: nn.Module) -> set[int]:
    """Return the slots of the adapters that are on the model; wrapped layers stay when their last adapter goes."""
    wrapped = (module for module in model.modules() if isinstance(module, LoraLinear | LoraExperts))
    return {int(slot) for module in wrapped for slot in module.slots}


def _adapt(
    model: nn.Module,
    name: str,
    layer: nn.Linear | LoraLinear,
    layers: LoraLayers,
    config: LoraConfig,
    generator: torch.Generator,
) -> LowRank:
    """Give a linear layer the new adapter's part."""
    if not isinstance(layer, LoraLinear):
        layer = _wrap(model, name, layer, layers.routing)
    low_rank = LowRank(layer.base, config.rank, config.alpha, generator)
    layer.slots[str(layers.slot)] = low_rank
    return low_rank


def _adapt_experts(
    model: nn.Module,
    name: str,
    module: nn.Module,
    layers: LoraLayers,
    config: LoraConfig,
    generator: torch.Generator,
) -> ExpertsPair:
    """Give a layer's experts the new adapter's part."""
    assert layers.expert_rank is not None
    wrapped = module if isinstance(module, LoraExperts) else _wrap_experts(model, name, module, layers.routing)
    return wrapped.new_slot(layers.slot, layers.expert_rank, config.alpha, generator)


def eject(model: nn.Module, layers: LoraLayers) -> None:
    """Take an adapter off the model again; the wrapped layers stay."""
    for layer in model.modules():
        if isinstance(layer, LoraLinear | LoraExperts) and str(layers.slot) in layer.slots:
            del layer.slots[str(layers.slot)]
            if isinstance(layer, LoraLinear):
                layer.choose(layers.slot)  # none now: or what is compiled would keep its numbers alive


def check_adapted(model: nn.Module, layers: LoraLayers) -> None:
    """Run the model on a few tokens, to see that the adapter takes part and can learn.

    Raises:
        ValueError: it cannot; it is off the model again.
    """
    ids = torch.tensor([[1, 2, 3, 4]], device=next(model.parameters()).device)
    try:
        with layers.exclusively(), torch.enable_grad():
            if not model(input_ids=ids, use_cache=False).logits.requires_grad:
                kind = cast(Any, model).config.model_type
                raise UnsupportedModel(f"models of type {kind!r} pass no gradient on to an adapter; {KNOWN}")
    except (NotCalled, UnsupportedModel) as error:
        eject(model, layers)
        _unwrap_unused(model)
        raise UnsupportedModel(str(error)) from error


def _unwrap_unused(model: nn.Module) -> None:
    for name, layer in list(model.named_modules()):
        if isinstance(layer, LoraLinear) and not layer.slots:
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, layer.base)


def _wrap(model: nn.Module, name: str, linear: nn.Linear, routing: Routing) -> LoraLinear:
    parent, _, leaf = name.rpartition(".")
    wrapped = LoraLinear(linear, routing, leaf)
    setattr(model.get_submodule(parent), leaf, wrapped)
    return wrapped


def compute_experts_in_turn(model: nn.Module) -> None:
    """Let a mixture's experts compute one after another, as adapted ones do, so that both give the same bits."""
    if _experts(model):
        cast(Any, model).set_experts_implementation("eager")


def wrap_experts(model: nn.Module) -> None:
    """Make a mixture's experts ready for adapters while their weights are whole; in a sharded model none is.

    Experts that compute in a way that is not known stay as they are: adapters on them will be refused.
    """
    plain = {name: module for name, module in _experts(model).items() if not isinstance(module, LoraExperts)}
    with contextlib.suppress(ValueError):
        for name, module in plain.items():
            _wrap_experts(model, name, module, routing_of(model))


def _wrap_experts(model: nn.Module, name: str, experts: nn.Module, routing: Routing) -> LoraExperts:
    compute_experts_in_turn(model)
    wrapped = LoraExperts(experts, routing)
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, wrapped)
    return wrapped


def _experts(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers' experts by name, as they are or wrapped."""
    text_modules = reads_text(model)
    wrapped = {name: module for name, module in model.named_modules() if isinstance(module, LoraExperts)}
    inside = {id(module.base_layer) for module in wrapped.values()}
    plain = {n: m for n, m in model.named_modules() if is_experts(m) and id(m) not in inside and m in text_modules}
    return {**wrapped, **plain}


def _linears(model: nn.Module) -> dict[str, nn.Linear | LoraLinear]:
    """Return the linear layers that text goes through, as they are or wrapped; those inside a `LoraLinear` left out."""
    text_modules = reads_text(model)
    linears: dict[str, Any] = {
        name: module
        for name, module in model.named_modules()
        if (is_linear(module) or isinstance(module, LoraLinear)) and module in text_modules
    }
    inside = tuple(f"{name}." for name, module in linears.items() if isinstance(module, LoraLinear))
    return {name: module for name, module in linears.items() if not name.startswith(inside or ("\0",))}
