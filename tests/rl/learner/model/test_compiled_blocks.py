"""Compiled blocks compute what the blocks as they are compute, for every adapter; what they cannot compute goes around.

Their graphs run as traced here: what a CPU's compiler would make of them is another matter than what a GPU's does.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fakes import made_groups
from helpers.reference import save_tiny
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.backends.debugging import boxed_nop
from torch._dynamo.utils import counters
from torch._inductor.exc import InductorError
from transformers import AutoModelForCausalLM
from transformers.modeling_layers import GradientCheckpointingLayer

from lora.config import LoraConfig, ModelConfig
from lora.layers.routing import Route, routing_of
from lora.trainable.inject import check_adapted, inject
from lora.trainable.lora_layers import LoraLayers, routed
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch
from rl.config import LearnerConfig
from rl.learner.bases.shared_model import SharedModel
from rl.learner.model.compiled_blocks import compile_blocks
from rl.learner.model.packed_attention import use_packed_attention
from rl.learner.model.recompute import blocks_of, recompute_blocks
from rl.learner.passes.forward import microbatches, target_logprobs
from rl.learner.passes.policy_loss import PolicyBatch, PolicyPart, differentiated
from rl.learner.policies.policy import PolicySpec
from rl.types import Row

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@pytest.fixture(autouse=True, scope="module")
def on_a_cpu() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *_: None)
        yield


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def load(family: str) -> Any:
    with tempfile.TemporaryDirectory() as directory:
        save_tiny(family, Path(directory))
        model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def adapter(model: Any, rank: int, seed: int) -> LoraLayers:
    layers = inject(model, LoraConfig(rank=rank, allow_large_rank=rank > 8), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in layers.values():
            layer.lora_B.normal_(std=0.02, generator=generator)
    return layers


def rows() -> list[Row]:
    groups = made_groups(1, groups=4, size=3, prompt=(2, 40), length=(3, 30))
    return build_batch(groups, [advantages(group.rewards) for group in groups], 64).rows


def learned(model: Any, layers: LoraLayers, tokens: int = 10**6) -> list[torch.Tensor]:
    """Logprobs, and the adapter's gradients."""
    parts = []
    for microbatch in microbatches(rows(), tokens, "cpu", joined=True):
        with layers.exclusively():
            parts.append(target_logprobs(model, microbatch, 0.7)[0])
    logprobs = torch.cat(parts)
    weights = torch.randn(len(logprobs), generator=torch.Generator().manual_seed(0))
    model.zero_grad()
    (logprobs * weights).sum().backward()
    return [logprobs.detach(), *(tensor.grad.clone() for tensor in layers.tensors().values())]  # pyright: ignore[reportOptionalMemberAccess]


def assert_close(got: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> None:
    for mine, theirs in zip(got, expected, strict=True):
        assert (mine - theirs).norm() <= 1e-5 * theirs.norm()


@dataclass(frozen=True)
class Compiled:
    """A Qwen 3 whose blocks are compiled, with the backward pass as the compiler divides it."""

    model: Any
    policies: list[LoraLayers]
    expected: list[list[torch.Tensor]]
    """What each policy learns without."""
    scores: Callable[[AbstractContextManager[None]], torch.Tensor]
    routes: Callable[[], list[AbstractContextManager[None]]]
    """Two adapters that divide a batch, and none."""
    expected_scores: list[torch.Tensor]


@pytest.fixture(scope="module")
def qwen() -> Iterator[Compiled]:
    """One for all tests of it, in their order: tracing its graphs takes most of their time."""
    torch._dynamo.reset()
    counters.clear()
    model = load("qwen3")
    policies = [adapter(model, rank=1, seed=seed) for seed in range(3)]
    use_packed_attention(model)
    (microbatch,) = microbatches(rows(), 10**6, "cpu", joined=True)
    half = microbatch.token_ids.numel() // 2
    parts = [(policies[0], slice(0, half)), (policies[1], slice(half, 2 * half))]

    def scores(route: AbstractContextManager[None]) -> torch.Tensor:
        with route, torch.no_grad():
            return target_logprobs(model, microbatch)[0]

    def routes() -> list[AbstractContextManager[None]]:
        return [routed(parts, 2 * half), policies[0].disabled()]

    expected = [learned(model, layers) for layers in policies]
    expected_scores = [scores(route) for route in routes()]
    compile_blocks(model, backend="aot_eager")
    yield Compiled(model, policies, expected, scores, routes, expected_scores)
    torch._dynamo.reset()


def test_looking_if_an_adapter_takes_part_compiles_no_graph_a_layer(qwen: Compiled) -> None:
    before = counters["stats"]["unique_graphs"]
    check_adapted(qwen.model, qwen.policies[0])
    graphs = counters["stats"]["unique_graphs"]
    check_adapted(qwen.model, qwen.policies[1])
    assert 0 < graphs - before <= 2, "one for the first layer, whose input has no gradient, and one for all others"
    assert counters["stats"]["unique_graphs"] == graphs


def test_each_adapter_learns_what_it_learns_without(qwen: Compiled) -> None:
    for layers, values in zip(qwen.policies, qwen.expected, strict=True):
        assert_close(learned(qwen.model, layers), values)
    assert_close(learned(qwen.model, qwen.policies[0], tokens=300), qwen.expected[0])
    assert counters["stats"]["unique_graphs"], "something was compiled"
    assert not counters["graph_break"]


def test_another_adapter_of_a_shape_and_other_lengths_compile_nothing(qwen: Compiled) -> None:
    learned(qwen.model, qwen.policies[0])
    learned(qwen.model, qwen.policies[0], tokens=300)
    graphs = counters["stats"]["unique_graphs"]
    for layers in qwen.policies:
        learned(qwen.model, layers, tokens=500)
    assert counters["stats"]["unique_graphs"] == graphs


def test_a_batch_of_several_adapters_and_the_base_alone_go_through_the_blocks_as_they_are(qwen: Compiled) -> None:
    learned(qwen.model, qwen.policies[1])  # the blocks have an adapter from before, which must not be taken for these
    for route, values in zip(qwen.routes(), qwen.expected_scores, strict=True):
        assert torch.equal(qwen.scores(route), values)


def test_so_it_does_where_blocks_are_computed_again(qwen: Compiled) -> None:
    """The last of these tests: the blocks stay so."""
    recompute_blocks(qwen.model)
    for layers, values in zip(qwen.policies, qwen.expected, strict=True):
        assert_close(learned(qwen.model, layers), values)
    assert not counters["graph_break"]


@pytest.mark.usefixtures("fresh_compiler")
def test_so_it_does_with_windows_caps_and_a_larger_rank() -> None:
    """As they are traced, without the division of the backward pass, which is the compiler's own matter."""
    model = load("gemma2-sliding-softcap")
    layers = adapter(model, rank=12, seed=0)
    use_packed_attention(model)
    expected = learned(model, layers)
    compile_blocks(model, backend="eager")
    assert_close(learned(model, layers), expected)
    assert_close(learned(model, layers, tokens=300), expected)
    assert counters["stats"]["unique_graphs"], "something was compiled"
    assert not counters["graph_break"]


class SmallBlock(GradientCheckpointingLayer):
    """A block of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        return self.linear(numbers).sin()


class SmallModel(nn.Module):
    """Two such blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([SmallBlock(), SmallBlock()])

    def get_decoder(self) -> nn.Module:
        return self

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            numbers = block(numbers)
        return numbers


def small_model() -> SmallModel:
    torch.manual_seed(0)
    model = SmallModel()
    routing_of(model).reset(Route(((0, None),)))
    return model


def small_gradients(model: SmallModel) -> list[torch.Tensor]:
    loss = model(torch.arange(24.0).view(4, 6).sin()).square().sum()
    return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_backward_pass_that_cannot_be_compiled_is_computed_again_by_the_blocks_as_they_are(
    checkpointed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise InductorError(RuntimeError("no compiler"), None)

    caplog.set_level("WARNING")
    model = small_model()
    expected = small_gradients(model)
    backend: Any = aot_autograd(fw_compiler=boxed_nop, bw_compiler=broken)
    blocks = compile_blocks(model, backend=backend)
    if checkpointed:
        recompute_blocks(model)
    for _ in range(2):
        for mine, theirs in zip(blocks.or_plain(lambda: small_gradients(model)), expected, strict=True):
            assert torch.equal(mine, theirs)
    assert counters["stats"]["unique_graphs"], "the forward pass was compiled"
    assert sum("backward pass cannot be compiled" in record.message for record in caplog.records) == 1


def test_an_update_is_computed_again_where_its_backward_pass_cannot_be_compiled(
    tiny_model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SharedModel(tiny_model)
    groups = made_groups(1, groups=2, size=3)
    batch = build_batch(groups, [advantages(group.rewards) for group in groups], 64)

    def update(run: str) -> dict[str, float]:
        policy = model.add(PolicySpec(run, LoraConfig(rank=1), LearnerConfig(), temperature=1.0, seed=0))
        (metrics,) = model.update([PolicyBatch(policy, batch)])
        model.remove(policy)
        return metrics

    failures: list[Exception] = [InductorError(RuntimeError("no compiler"), None)]

    def failing_once(parts: Sequence[PolicyPart]) -> list[PolicyPart]:
        if failures:
            raise failures.pop()
        return differentiated(parts)

    expected = update("expected")
    monkeypatch.setattr("rl.learner.bases.shared_model.differentiated", failing_once)
    assert update("again") == expected
    assert not failures


@pytest.mark.usefixtures("fresh_compiler")
def test_blocks_that_cannot_be_compiled_compute_as_they_are_and_stay_checkpointed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no compiler")

    model = small_model()
    recompute_blocks(model)
    expected = small_gradients(model)
    model = small_model()
    compile_blocks(model, backend=broken)  # pyright: ignore[reportArgumentType]
    recompute_blocks(model)
    outermost = [block.forward for block in blocks_of(model)]
    for _ in range(2):
        for mine, theirs in zip(small_gradients(model), expected, strict=True):
            assert torch.equal(mine, theirs)
    assert [block.forward for block in blocks_of(model)] == outermost
    assert sum("cannot be compiled" in record.message for record in caplog.records) == len(outermost)
