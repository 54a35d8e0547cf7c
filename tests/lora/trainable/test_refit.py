"""An adapter in another shape: the same products where they fit, the nearest ones where they do not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.reference import FAMILIES, MIXTURES, save_tiny
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM

from lora.base.load import load_base, load_skeleton
from lora.config import LoraConfig, ModelConfig
from lora.peft.description import Description
from lora.trainable.inject import fresh_tensors, inject
from lora.trainable.refit import refit

LAYER = "model.layers.0.mlp.up_proj"
IDS = torch.randint(3, 60, (2, 12), generator=torch.Generator().manual_seed(0))

sizes, ranks = st.integers(2, 12), st.integers(1, 6)
alphas, seeds = st.floats(0.5, 64), st.integers(0, 2**31)


def drawn(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


def layer_of(A: Tensor, B: Tensor, layer: str = LAYER) -> dict[str, Tensor]:
    return {f"{layer}.lora_A": A, f"{layer}.lora_B": B}


def fresh_layer(generator: torch.Generator, rank: int, d_in: int, d_out: int) -> dict[str, Tensor]:
    return layer_of(drawn(generator, rank, d_in), torch.zeros(d_out, rank))


def product(tensors: dict[str, Tensor], rank: int, alpha: float) -> Tensor:
    A, B = (tensors[f"{LAYER}.{part}"].double() for part in ("lora_A", "lora_B"))
    return (alpha / rank) * B @ A


def shaped(rank: int, alpha: float) -> LoraConfig:
    return LoraConfig(rank=rank, alpha=alpha, targets=("up_proj",))


def described(rank: int, alpha: float) -> Description:
    return Description("m", rank, alpha, ("up_proj",))


@given(sizes, sizes, ranks, st.integers(0, 2), alphas, alphas, seeds)
def test_a_rank_that_is_not_lower_keeps_the_product(
    d_in: int, d_out: int, rank: int, more: int, alpha: float, new_alpha: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    source = layer_of(drawn(generator, rank, d_in), drawn(generator, d_out, rank))
    fresh = fresh_layer(generator, rank + more, d_in, d_out)
    refitted = refit(source, described(rank, alpha), shaped(rank + more, new_alpha), fresh)
    before, after = product(source, rank, alpha), product(refitted.tensors, rank + more, new_alpha)
    assert (before - after).norm() <= 1e-6 * before.norm()
    assert (refitted.errors, refitted.error, refitted.worst) == ((), 0.0, None)
    assert {name: tensor.shape for name, tensor in refitted.tensors.items()} == {
        name: tensor.shape for name, tensor in fresh.items()
    }
    assert torch.equal(refitted.tensors[f"{LAYER}.lora_A"][rank:], fresh[f"{LAYER}.lora_A"][rank:])


@given(sizes, sizes, st.integers(2, 8), alphas, seeds, st.data())
def test_a_cut_is_the_nearest_of_its_rank(
    d_in: int, d_out: int, rank: int, alpha: float, seed: int, data: st.DataObject
) -> None:
    """The dense decomposition of the whole product says how near that is."""
    new_rank = data.draw(st.integers(1, rank - 1))
    generator = torch.Generator().manual_seed(seed)
    source = layer_of(drawn(generator, rank, d_in), drawn(generator, d_out, rank))
    fresh = fresh_layer(generator, new_rank, d_in, d_out)
    refitted = refit(source, described(rank, alpha), shaped(new_rank, 32.0), fresh)
    before, after = product(source, rank, alpha), product(refitted.tensors, new_rank, 32.0)
    sigma = torch.linalg.svdvals(before)
    nearest = (sigma[new_rank:].norm() / sigma.norm()).item()
    assert refitted.error == pytest.approx(nearest, abs=1e-9)
    assert ((before - after).norm() / before.norm()).item() == pytest.approx(nearest, abs=1e-6)
    (cut,) = refitted.errors
    assert (cut.layer, cut.whole) == (LAYER, pytest.approx(before.norm().item()))
    A, B = refitted.tensors.values()
    kept = min(new_rank, d_in, d_out)
    torch.testing.assert_close(A[:kept].norm(dim=1), B[:, :kept].norm(dim=0), rtol=1e-4, atol=1e-6)


@given(sizes, sizes, st.integers(0, 3), st.integers(0, 2), seeds)
def test_a_product_of_a_lower_rank_than_its_adapter_loses_nothing(
    d_in: int, d_out: int, true_rank: int, more: int, seed: int
) -> None:
    """Whole numbers, so that the products are exact."""
    generator = torch.Generator().manual_seed(seed)
    rank, new_rank = true_rank + more + 2, true_rank + more + 1

    def whole(*shape: int) -> Tensor:
        return torch.randint(-3, 4, shape, generator=generator).float()

    A = whole(rank, true_rank) @ whole(true_rank, d_in)
    source = layer_of(A, whole(d_out, rank))
    fresh = fresh_layer(generator, new_rank, d_in, d_out)
    refitted = refit(source, described(rank, 32.0), shaped(new_rank, 32.0), fresh)
    assert refitted.error == 0
    before, after = product(source, rank, 32.0), product(refitted.tensors, new_rank, 32.0)
    assert (before - after).norm() <= 1e-6 * before.norm()
    A, B = refitted.tensors.values()
    assert (A.norm(dim=1) + B.norm(dim=0)).gt(0).all(), "zeros in both would never learn"


def test_of_several_layers_the_worst_is_named() -> None:
    generator = torch.Generator().manual_seed(0)
    poor, good = "model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"
    source = layer_of(torch.eye(2, 4), torch.eye(5, 2), poor)
    source |= layer_of(torch.eye(2, 4), torch.eye(5, 2) * torch.tensor([2.0, 0.0]), good)
    fresh = {
        name: tensor
        for layer in (poor, good)
        for name, tensor in layer_of(drawn(generator, 1, 4), torch.zeros(5, 1), layer).items()
    }
    refitted = refit(source, described(2, 32.0), shaped(1, 32.0), fresh)
    assert refitted.worst is not None
    assert (refitted.worst.layer, refitted.worst.relative) == (poor, pytest.approx(0.5**0.5))
    assert refitted.error == pytest.approx((1 / 6) ** 0.5)


def tiny(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(FAMILIES["llama"]()).eval()


@pytest.mark.parametrize("rank", [1, 3])
def test_rows_that_are_added_learn(rank: int) -> None:
    """B's from the first step on, and A's once B is not zero; in place of a layer's last ranks that are zeros, too."""
    narrow, wide = LoraConfig(rank=rank), LoraConfig(rank=3)
    source = inject(tiny(), narrow)
    with torch.no_grad():
        for layer in source.values():
            layer.lora_B[:, :1].normal_(std=0.05)
            layer.lora_A[1:] = 0
    description = Description("m", rank, 32.0, narrow.targets)
    model = tiny()
    layers = inject(model, wide)
    layers.load(refit(source.tensors(), description, wide, layers.tensors()).tensors)

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        model(input_ids=IDS).logits.log_softmax(-1)[0, :-1].gather(1, IDS[0, 1:, None]).sum().neg().backward()
        return {name: tensor.grad for name, tensor in layers.tensors().items() if tensor.grad is not None}

    first = gradients()
    assert all(gradient[:, 1:].abs().sum(0).gt(0).all() for name, gradient in first.items() if name.endswith("lora_B"))
    assert not any(gradient[1:].any() for name, gradient in first.items() if name.endswith("lora_A"))
    with torch.no_grad():
        for name, tensor in layers.tensors().items():
            tensor -= 1e-3 * first[name]
    second = gradients()
    assert all(gradient[1:].abs().sum(1).gt(0).all() for name, gradient in second.items() if name.endswith("lora_A"))


def test_layers_that_the_adapter_lacks_are_fresh() -> None:
    few, all_layers = LoraConfig(rank=2, targets=("q_proj",)), LoraConfig(rank=2)
    source, fresh = inject(tiny(), few, seed=5).tensors(), inject(tiny(), all_layers, seed=6).tensors()
    refitted = refit(source, Description("m", 2, 32.0, few.targets), all_layers, fresh).tensors
    assert refitted.keys() == fresh.keys()
    for name, tensor in refitted.items():
        assert torch.equal(tensor, source[name] if "q_proj" in name else fresh[name])


@pytest.mark.parametrize("family", ["llama", "mixtral", "qwen2-moe"])
def test_fresh_tensors_are_those_of_a_fresh_run(family: str, tmp_path: Path) -> None:
    save_tiny(family, tmp_path)
    model, lora = ModelConfig(name=str(tmp_path), dtype="float32"), LoraConfig(rank=4, lm_head=True)
    fresh, expected = (
        fresh_tensors(load_skeleton(model), lora, seed=3),
        inject(load_base(model), lora, seed=3).tensors(),
    )
    assert list(fresh) == list(expected)
    assert all(torch.equal(fresh[name], tensor) for name, tensor in expected.items())


def test_experts_keep_their_rank() -> None:
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(MIXTURES["mixtral"]())
    lora = LoraConfig(rank=2, alpha=16)
    source = fresh_tensors(skeleton, LoraConfig(rank=2), seed=1)
    source = {name: tensor + 1 if name.endswith("lora_B") else tensor for name, tensor in source.items()}
    description = Description("m", 2, 32.0, lora.targets, expert_rank=1)
    fresh = fresh_tensors(skeleton, lora, seed=2)
    refitted = refit(source, description, lora, fresh).tensors
    for name, tensor in source.items():
        assert torch.equal(refitted[name], tensor * 2 if name.endswith("lora_B") else tensor), name
    wider = LoraConfig(rank=4)
    with pytest.raises(ValueError, match=r"rank of experts cannot be changed; set lora\.rank = 2"):
        refit(source, description, wider, fresh_tensors(skeleton, wider, seed=2))
