"""Routing: each computation goes through the adapter that was named for it, whenever and in whatever form."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint  # noqa: TID251
from transformers import AutoModelForCausalLM, LlamaConfig

from lora.config import LoraConfig
from lora.layers.routing import routing_of
from lora.trainable.full import FullWeights
from lora.trainable.inject import eject, inject
from lora.trainable.lora_layers import LoraLayers, routed

IDS = torch.randint(3, 60, (3, 8), generator=torch.Generator().manual_seed(0))


def tiny() -> Any:
    torch.manual_seed(0)
    shape = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    return AutoModelForCausalLM.from_config(LlamaConfig(**shape, num_attention_heads=2, initializer_range=0.2)).eval()


def moved(model: nn.Module, seed: int, rank: int = 2) -> LoraLayers:
    """An adapter that does something."""
    layers = inject(model, LoraConfig(rank=rank), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in layers.tensors().items():
            if name.endswith("lora_B"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.05)
    return layers


def gradients(layers: LoraLayers) -> dict[str, Tensor]:
    found = {name: tensor.grad for name, tensor in layers.tensors().items() if tensor.grad is not None}
    assert len(found) == len(layers.tensors())
    return {name: gradient.clone() for name, gradient in found.items()}


@pytest.mark.parametrize("when", ["outside all blocks", "under another adapter", "under none"])
def test_what_is_computed_again_goes_through_the_adapter_of_the_first_time(when: str) -> None:
    model = tiny()
    first, second = moved(model, 1, rank=1), moved(model, 2, rank=8)
    with first.exclusively():
        model(IDS).logits.square().mean().backward()
        expected = gradients(first)
        model.zero_grad()
        loss = checkpoint(
            lambda: model(IDS).logits.square().mean(), use_reentrant=False, context_fn=routing_of(model).recomputed
        )
    if when == "outside all blocks":
        loss.backward()
    else:
        with second.exclusively() if when == "under another adapter" else second.disabled():
            loss.backward()
    for name, gradient in gradients(first).items():
        torch.testing.assert_close(gradient, expected[name])
    assert all(tensor.grad is None for tensor in second.tensors().values())


def test_of_several_adapters_one_must_be_named() -> None:
    model = tiny()
    only = moved(model, 1)
    with torch.no_grad():
        alone = model(IDS).logits
        other = moved(model, 2)
        with pytest.raises(RuntimeError, match="several adapters"):
            model(IDS)
        with only.exclusively():
            torch.testing.assert_close(model(IDS).logits, alone)
    eject(model, other)
    with pytest.raises(RuntimeError, match="several adapters"):
        model(IDS)


def test_parts_are_positions_whatever_form_a_layer_sees_them_in() -> None:
    model = tiny()
    first, second = moved(model, 1), moved(model, 2)
    layer = model.model.layers[0].mlp.up_proj
    x = torch.randn(3, 8, 32, generator=torch.Generator().manual_seed(0))
    with first.exclusively():
        expected = layer(x)
    with second.exclusively():
        expected[2] = layer(x)[2]
    with routed([(first, slice(0, 16)), (second, slice(16, 24))], 24):
        torch.testing.assert_close(layer(x), expected)
        torch.testing.assert_close(layer(x.flatten(0, 1)), expected.flatten(0, 1))


def test_a_layer_that_sees_other_positions_than_the_batchs_refuses() -> None:
    model = tiny()
    first, second = moved(model, 1), moved(model, 2)
    layer = model.model.layers[0].mlp.up_proj
    with (
        routed([(first, slice(0, 16)), (second, slice(16, 24))], 24),
        pytest.raises(ValueError, match="regroups tokens"),
    ):
        layer(torch.zeros(9, 32))


def test_nothing_is_learned_through_numbers_that_are_there_for_a_moment() -> None:
    model = tiny()
    layers = moved(model, 1)
    with layers.swapped_in({name: torch.ones_like(tensor) for name, tensor in layers.tensors().items()}):
        assert not model(IDS).logits.requires_grad
    assert model(IDS).logits.requires_grad
    whole = FullWeights(plain := tiny())
    with whole.disabled():
        assert not plain(IDS).logits.requires_grad
    assert plain(IDS).logits.requires_grad
