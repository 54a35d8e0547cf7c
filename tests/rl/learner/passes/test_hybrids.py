"""Families whose layers carry along a row what no mask keeps apart: each completion is read alone, and all is exact."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fakes import made_groups
from helpers.hybrids import HYBRIDS, save_hybrid
from helpers.loop import EagerGrader, configuration
from helpers.loop import run as run_loop
from helpers.reference import FAMILIES, save_tiny, surrogate
from helpers.torch_learner import TorchLearner
from transformers import AutoModelForCausalLM

from lora.base.architecture import attends_only
from lora.base.load import load_base
from lora.base.targets import resolve_lora
from lora.config import ALL_LINEAR, LoraConfig, ModelConfig
from lora.layers.experts import PROJECTIONS
from lora.trainable.inject import inject
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch
from rl.config import LearnerConfig
from rl.learner.bases.shared_model import PolicyBatch, SharedModel
from rl.learner.model.packed_attention import use_packed_attention
from rl.learner.passes.packing_check import check_rows, read_alone
from rl.learner.policies.policy import PolicySpec
from rl.types import Group, TrainBatch
from rollout.config import SamplingConfig
from rollout.torch.engine import TorchEngine

Hybrid = tuple[ModelConfig, LoraConfig]
GROUPS = made_groups(3, groups=3, size=4, length=(2, 7))
LEAKING = [family for family in HYBRIDS if family not in ("mamba2", "falcon-mamba", "rwkv", "gpt-oss-sinks")]
"""Those that take a mask for every pair of positions, and do not keep to it."""


TABLED = {
    "qwen3-next", "bamba", "falcon-h1", "lfm2", "granite-hybrid", "nemotron-h", "llama4-chunks", "gpt-oss-sinks"
}  # fmt: skip
"""Families whose logprobs and gradients `test_families.py` measures."""


@pytest.fixture(scope="module", params=[family for family in HYBRIDS if family not in TABLED])
def hybrid(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Hybrid:
    path = tmp_path_factory.mktemp("hybrids") / request.param
    targets = save_hybrid(request.param, path)
    return ModelConfig(name=str(path), dtype="float32", max_length=64), LoraConfig(rank=2, targets=targets)


def packed(groups: Sequence[Group] = GROUPS) -> TrainBatch:
    batch = build_batch(groups, [advantages(group.rewards) for group in groups], 1024)
    assert max(int(row.segment_ids.max()) for row in batch.rows) > 1
    return batch


def randomise(layers: Any, seed: int = 7) -> None:
    """A has a gradient only where B is not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in layers.values():
            layer.lora_B.copy_(torch.randn(layer.lora_B.shape, generator=generator) * 0.02)


def every_layer(model: ModelConfig) -> LoraConfig:
    """Adapt all linear layers, and experts where these are computed as is known."""
    unknown_experts = any(family in model.name for family in ("gpt-oss", "llama4"))
    lora = LoraConfig(rank=2, targets=(ALL_LINEAR,), exclude=PROJECTIONS if unknown_experts else ())
    return resolve_lora(model, lora)


async def test_two_steps_of_the_loop_learn_from_the_samplers_own_logprobs(hybrid: Hybrid, tmp_path: Path) -> None:
    model, lora = hybrid
    config = configuration(
        f"model.name={model.name}", f"lora.targets={list(lora.targets)}", "lora.rank=2", "num_steps=2",
        "problems_per_step=4", "sampling.group_size=4", "sampling.max_tokens=5", "evaluate.num_problems=4",
        "evaluate.every=2", "liveness.every=1",
    )  # fmt: skip
    directory = await run_loop(config, tmp_path / "run", EagerGrader())
    steps = [row for row in directory.metrics() if "update/kl_sampler_learner" in row]
    assert len(steps) == 2
    assert all(abs(row["update/kl_sampler_learner"]) < 0.005 for row in steps)
    assert all(row["update/grad_norm"] > 0 and row["update/nonfinite"] == 0 for row in steps)
    assert all(
        row["policy/sampler_difference"] < 1e-3 for row in directory.metrics() if "policy/sampler_difference" in row
    )


async def test_an_update_from_packed_rows_is_that_of_one_completion_at_a_time(hybrid: Hybrid) -> None:
    """Every linear layer is adapted. Several rows share a microbatch, so that most are padded."""
    model, lora = hybrid[0], every_layer(hybrid[0])
    config = LearnerConfig(lr=1e-2, max_grad_norm=None)
    learner = TorchLearner("run", model, lora, config, temperature=0.7, seed=0)
    assert not learner.shared.packs
    randomise(learner.policy.weights)
    plain: Any = AutoModelForCausalLM.from_pretrained(
        model.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    layers = inject(plain, lora)
    layers.load(learner.policy.weights.tensors())
    surrogate(
        plain, GROUPS, [advantages(group.rewards) for group in GROUPS], temperature=0.7, max_ratio=config.max_ratio
    ).backward()
    before = {name: tensor.detach().clone() for name, tensor in learner.policy.weights.tensors().items()}
    await learner.update(packed())
    for name, tensor in layers.tensors().items():
        assert not torch.equal(learner.policy.weights.tensors()[name], before[name]), name
        mine = learner.policy.weights.tensors()[name].grad
        assert mine is not None
        assert tensor.grad is not None
        assert tensor.grad.norm() > 0, name
        assert (mine - tensor.grad).norm() <= 1e-3 * tensor.grad.norm(), name  # a leak is a hundred times that


async def test_what_is_sampled_has_the_logprobs_that_it_is_scored_with(hybrid: Hybrid) -> None:
    model, lora = hybrid
    engine = TorchEngine(model, lora)
    adapter = await TorchLearner("run", model, lora, LearnerConfig(), temperature=1.0, seed=0).publish()
    prompts, sampling = [[5, 6, 7], [9, 8, 4], [20, 21, 22, 23, 24]], SamplingConfig(group_size=3, max_tokens=6)
    sampled = await engine.sample(prompts, adapter, sampling, seeds=[1, 2, 3])
    assert sampled == await engine.sample(prompts, adapter, sampling, seeds=[1, 2, 3])
    fewer = await engine.sample(prompts[1:], adapter, sampling, seeds=[2, 3])  # other rows beside, other rounding
    for group, same in zip(sampled[1:], fewer, strict=True):
        for completion, again in zip(group, same, strict=True):
            assert completion.token_ids == again.token_ids
            assert completion.logprobs == pytest.approx(again.logprobs, abs=1e-4)
    for prompt, group in zip(prompts, sampled, strict=True):
        for completion in group:
            (scores,) = await engine.score([[*prompt, *completion.token_ids]], adapter)
            assert scores[len(prompt) - 1 :] == pytest.approx(completion.logprobs, abs=1e-4)
    assert len({completion.token_ids for completion in sampled[2]}) > 1


@pytest.mark.parametrize("family", LEAKING)
def test_packed_rows_would_leak(family: str, tmp_path: Path) -> None:
    """Without this the check at load would prove nothing."""
    save_hybrid(family, tmp_path)
    model = load_base(ModelConfig(name=str(tmp_path), dtype="float32")).eval()
    assert not attends_only(model)
    alone = read_alone(model, "cpu")
    use_packed_attention(model)
    with pytest.raises(ValueError, match="other logprobs than alone"):
        check_rows(model, alone, "cpu", packed=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_that_attend_only_stay_packed(family: str, tmp_path: Path) -> None:
    save_tiny(family, tmp_path)
    shared = SharedModel(ModelConfig(name=str(tmp_path), dtype="float32"))
    assert shared.packs
    policy = shared.add(PolicySpec("run", LoraConfig(), LearnerConfig(), temperature=1.0, seed=0))
    batch = packed()
    (microbatch,) = shared._microbatches([PolicyBatch(policy, batch)], 4096)
    assert len(microbatch.token_ids) == len(batch.rows)


def test_two_policies_on_a_hybrid_learn_as_each_alone(tmp_path: Path) -> None:
    targets = save_hybrid("qwen3.5", tmp_path)
    model = ModelConfig(name=str(tmp_path), dtype="float32")
    batches = [packed(made_groups(seed, groups=2, size=4)) for seed in (1, 2)]

    def trained(chosen: Sequence[int]) -> list[list[torch.Tensor]]:
        shared = SharedModel(model, tokens_per_microbatch=64)
        specs = [
            PolicySpec(f"run{i}", LoraConfig(rank=1 + i, targets=targets), LearnerConfig(), temperature=1.0, seed=i)
            for i in chosen
        ]
        policies = [shared.add(spec) for spec in specs]
        for policy in policies:
            randomise(policy.weights)
        shared.update([PolicyBatch(policy, batches[i]) for policy, i in zip(policies, chosen, strict=True)])
        return [[p.grad for p in policy.parameters if p.grad is not None] for policy in policies]

    for mine, theirs in zip(trained([0, 1]), [*trained([0]), *trained([1])], strict=True):
        for one, other in zip(mine, theirs, strict=True):
            assert (one - other).norm() <= 1e-4 * other.norm()
