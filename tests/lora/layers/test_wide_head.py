"""An output layer in float32 on bfloat16 numbers: its logits are exact, in every way that a model reaches it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lora.base.load import load_base
from lora.config import LoraConfig, ModelConfig
from lora.layers.wide_head import WideHead
from lora.load import load_adapted
from rl.learner.model.output_layer import head_logprobs, output_logits

ROUNDED = ModelConfig(name="tiny-random", dtype="bfloat16", max_length=64, head_dtype="model")
WIDE = ROUNDED.model_copy(update={"head_dtype": "float32"})
IDS = torch.randint(3, 40, (2, 24), generator=torch.Generator().manual_seed(0))


def hidden_states(model: Any) -> Tensor:
    return model.model(IDS).last_hidden_state.flatten(0, 1)


def exact_logits(model: Any, hidden: Tensor) -> Tensor:
    return hidden.double() @ model.get_output_embeddings().weight.double().T


def error(logits: Tensor, exact: Tensor) -> float:
    return float(((logits.double() - exact).norm() / exact.norm()).detach())


def test_logits_have_no_error_of_their_own() -> None:
    wide, rounded = load_base(WIDE), load_base(ROUNDED)
    hidden = hidden_states(wide).detach()
    assert torch.equal(hidden, hidden_states(rounded)), "the rest of the model computes as before"
    exact = exact_logits(wide, hidden)
    assert error(output_logits(wide, hidden), exact) < 1e-6
    assert error(output_logits(rounded, hidden), exact) > 1e-3
    assert wide(IDS).logits.dtype == torch.float32
    assert torch.equal(wide(IDS).logits.flatten(0, 1), output_logits(wide, hidden)), "an engine reads the same"


def test_logprobs_of_the_frozen_layer_are_exact_and_their_gradient_is_the_formulas() -> None:
    model: Any = load_base(WIDE).requires_grad_(False)
    hidden = hidden_states(model).detach().requires_grad_()
    targets, temperatures = IDS.flatten(), torch.full((IDS.numel(),), 0.7)
    logprobs, _ = head_logprobs(model, hidden, targets, temperatures)
    exact = (exact_logits(model, hidden) / 0.7).log_softmax(-1)
    expected = exact.gather(1, targets[:, None])[:, 0]
    assert (logprobs - expected).abs().max() < 1e-5
    (gradient,) = torch.autograd.grad(logprobs.sum(), hidden)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), hidden)
    assert error(gradient, expected_gradient.double()) < 5e-3, "rounded to bfloat16, as all gradients of activations"


@pytest.mark.parametrize("rank", [1, 4])
def test_an_adapter_of_the_layer_adds_to_it_and_learns(rank: int) -> None:
    adapted = load_adapted(WIDE, LoraConfig(rank=rank, lm_head=True))
    model: Any = adapted.model
    head, low_rank = model.get_output_embeddings(), adapted.layers["lm_head"]
    assert isinstance(head.base, WideHead)
    hidden = hidden_states(model).detach()
    plain = output_logits(model, hidden)
    assert torch.equal(plain, head.base(hidden)), "B is zero"
    with torch.no_grad():
        low_rank.lora_B.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    delta = hidden.double() @ low_rank.lora_A.double().T @ low_rank.lora_B.double().T * low_rank.scale
    logits = output_logits(model, hidden)
    assert logits.dtype == torch.float32
    assert error(logits - plain, delta.detach()) < 2e-2
    logits.log_softmax(-1)[:, 5].sum().backward()
    assert low_rank.lora_A.grad is not None
    assert low_rank.lora_A.grad.abs().sum() > 0


def test_a_layer_that_is_trained_itself_gets_its_gradient_and_its_new_numbers_count() -> None:
    model: Any = load_base(WIDE)
    head = model.get_output_embeddings()
    hidden = hidden_states(model).detach()
    before = output_logits(model.requires_grad_(False), hidden)  # keeps a copy of the weight
    head.weight.requires_grad_(True)
    output_logits(model, hidden).sum().backward()
    assert torch.allclose(head.weight.grad, hidden.float().sum(0).expand_as(head.weight).bfloat16(), rtol=2e-2)
    with torch.no_grad():
        head.weight.mul_(2)
    assert torch.allclose(output_logits(model.requires_grad_(False), hidden), 2 * before)


def test_only_what_is_rounded_is_widened() -> None:
    exact: Any = load_base(ModelConfig(name="tiny-random", dtype="float32", max_length=64))
    assert type(exact.get_output_embeddings()) is nn.Linear
    assert isinstance(load_base(WIDE).get_output_embeddings(), WideHead)  # pyright: ignore[reportCallIssue]
