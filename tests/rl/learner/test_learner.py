"""The learner's update against the plain loss, however it is cut up, stopped or disturbed."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from helpers.fakes import made_groups
from helpers.reference import FAMILIES, logprobs, save_tiny, surrogate
from helpers.torch_learner import TorchLearner
from torch import Tensor
from transformers import AutoModelForCausalLM

from lora.config import LoraConfig, ModelConfig
from lora.peft.files import unpack
from lora.trainable.inject import inject
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch
from rl.config import LearnerConfig
from rl.types import Group, TrainBatch

CONFIG = LearnerConfig(lr=1e-2, max_grad_norm=None)
LORA = LoraConfig(rank=2)
GROUPS = made_groups(5, groups=8, size=8)
ADVANTAGES = [advantages(group.rewards) for group in GROUPS]


def batch(groups: list[Group] = GROUPS, tokens_per_row: int = 1024) -> TrainBatch:
    return build_batch(groups, [advantages(group.rewards) for group in groups], tokens_per_row)


def learner(
    model: ModelConfig,
    config: LearnerConfig = CONFIG,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    lora: LoraConfig = LORA,
) -> TorchLearner:
    made = TorchLearner("run", model, lora, config, temperature=temperature, seed=seed)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for layer in made.policy.weights.values():  # A has a gradient only where B is not zero
            layer.lora_B.copy_(torch.randn(layer.lora_B.shape, generator=generator) * 0.02)
    return made


def tensors(of: TorchLearner) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in of.policy.weights.tensors().items()}


def gradients(of: TorchLearner) -> dict[str, Tensor]:
    found = {name: tensor.grad for name, tensor in of.policy.weights.tensors().items()}
    return {name: gradient.clone() for name, gradient in found.items() if gradient is not None}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert (one[name] - other[name]).norm() <= tolerance * other[name].norm(), name
        assert other[name].norm() > 0, name


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("family", FAMILIES)
async def test_an_updates_loss_and_gradient_are_those_of_one_completion_at_a_time(
    tmp_path: Path, family: str, temperature: float
) -> None:
    save_tiny(family, tmp_path)
    trained = learner(ModelConfig(name=str(tmp_path), dtype="float32"), temperature=temperature)
    plain: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager").eval()
    layers = inject(plain, LORA)
    layers.load(trained.policy.weights.tensors())
    loss = surrogate(plain, GROUPS, ADVANTAGES, temperature=temperature, max_ratio=CONFIG.max_ratio)
    loss.backward()
    metrics = await trained.update(batch())
    assert_close(gradients(trained), {name: t.grad for name, t in layers.tensors().items() if t.grad is not None})
    norm = math.sqrt(sum(g.square().sum().item() for g in gradients(trained).values()))
    assert metrics["update/grad_norm"] == pytest.approx(norm, rel=1e-5)


async def test_the_metrics_of_an_update_are_what_their_names_say(tiny_model: ModelConfig) -> None:
    trained = learner(tiny_model)
    ratios, rewarded = [], []
    with torch.no_grad():
        for group, group_advantages in zip(GROUPS, ADVANTAGES, strict=True):
            for completion, advantage in zip(group.completions, group_advantages, strict=True):
                policy = logprobs(trained.shared.model, group.prompt, completion.token_ids)
                ratios += (policy - torch.tensor(completion.logprobs)).exp().tolist()
                rewarded += [advantage] * len(completion.token_ids)
    metrics = await trained.update(batch())
    weighted = [-min(ratio, 2.0) * advantage for ratio, advantage in zip(ratios, rewarded, strict=True)]
    assert metrics["update/loss"] == pytest.approx(sum(weighted) / len(ratios), rel=1e-4)
    k3 = [ratio - 1 - math.log(ratio) for ratio in ratios]
    assert metrics["update/kl_sampler_learner"] == pytest.approx(sum(k3) / len(k3), rel=1e-4)
    assert metrics["update/clip_fraction"] == pytest.approx(sum(ratio > 2 for ratio in ratios) / len(ratios))
    assert metrics["update/tokens"] == len(ratios)
    assert 0 < metrics["update/entropy"] < math.log(50)
    assert metrics["update/nonfinite"] == metrics["update/skipped"] == 0


CUTS: dict[str, tuple[dict[str, Any], int]] = {
    "one row at a time": ({"tokens_per_microbatch": 1}, 1024),
    "one completion at a time": ({"tokens_per_microbatch": 1}, 1),
    "padded pairs": ({"tokens_per_microbatch": 90}, 40),
    "with gradient checkpointing": ({"gradient_checkpointing": True}, 1024),
}


@pytest.mark.parametrize("objective", ["importance", "gspo"])
@pytest.mark.parametrize("cut", CUTS)
async def test_the_update_does_not_depend_on_how_the_batch_is_cut_up(
    tiny_model: ModelConfig, cut: str, objective: str
) -> None:
    options, tokens_per_row = CUTS[cut]
    config = CONFIG.model_copy(update={"objective": objective})
    whole, pieces = learner(tiny_model, config), learner(tiny_model, config.model_copy(update=options))
    one = await whole.update(batch())
    other = await pieces.update(batch(tokens_per_row=tokens_per_row))
    assert_close(gradients(pieces), gradients(whole))
    assert_close(tensors(pieces), tensors(whole), 1e-4)
    assert other == pytest.approx(one, rel=1e-4, abs=1e-6)


async def test_long_gradients_are_clipped_to_the_norm_and_short_ones_left_alone(tiny_model: ModelConfig) -> None:
    free = learner(tiny_model)
    norm = (await free.update(batch()))["update/grad_norm"]
    for limit, expected in ((norm / 2, norm / 2), (norm * 2, norm)):
        trained = learner(tiny_model, CONFIG.model_copy(update={"max_grad_norm": limit}))
        assert (await trained.update(batch()))["update/grad_norm"] == pytest.approx(norm)
        clipped = math.sqrt(sum(g.square().sum().item() for g in gradients(trained).values()))
        assert clipped == pytest.approx(expected, rel=1e-4)


async def test_learning_makes_the_right_completions_likelier_than_the_wrong_ones(tiny_model: ModelConfig) -> None:
    trained = learner(tiny_model)

    async def margin() -> float:
        total = 0.0
        for group, group_advantages in zip(GROUPS, ADVANTAGES, strict=True):
            for completion, advantage in zip(group.completions, group_advantages, strict=True):
                (scores,) = await trained.score([[*group.prompt, *completion.token_ids]])
                total += advantage * sum(scores[len(group.prompt) - 1 :])
        return total

    before = await margin()
    for _ in range(3):
        await trained.update(batch())
    assert await margin() > before + 10


# --- stopping and going on ---


async def test_resuming_at_any_step_equals_never_having_stopped_bit_for_bit(tiny_model: ModelConfig) -> None:
    steps = [batch(made_groups(seed, groups=2)) for seed in range(4)]
    whole = learner(tiny_model)
    states: list[bytes] = []
    seen: list[dict[str, float]] = []
    for step in steps:
        states.append(await whole.state())
        seen.append(await whole.update(step))
    for at, state in enumerate(states):
        resumed = TorchLearner("another", tiny_model, LORA, CONFIG, temperature=1.0, seed=99)
        await resumed.load_state(state)
        assert [await resumed.update(step) for step in steps[at:]] == seen[at:]
        assert same(tensors(resumed), tensors(whole))
        published, expected = await resumed.publish(), await whole.publish()
        assert published.name.removeprefix("another") == expected.name.removeprefix("run")
        assert expected.name.startswith("run-v000004-")
        assert same(unpack(published.payload)[0], unpack(expected.payload)[0])
        assert same(safetensors.torch.load(await resumed.state()), safetensors.torch.load(await whole.state()))


async def test_the_same_state_is_the_same_bytes(tiny_model: ModelConfig) -> None:
    trained = learner(tiny_model)
    await trained.update(batch())
    assert len({await trained.state() for _ in range(20)}) == 1


async def test_a_state_of_another_shape_is_refused(tiny_model: ModelConfig) -> None:
    state = await learner(tiny_model).state()
    other = TorchLearner("run", tiny_model, LoraConfig(rank=1), CONFIG, temperature=1.0, seed=0)
    with pytest.raises(ValueError, match="has shape"):
        await other.load_state(state)


# --- what changes nothing ---


def spoiled(kind: str) -> TrainBatch:
    good = batch()
    value = {"nan": math.nan, "infinite": -math.inf}[kind]
    row = dataclasses.replace(good.rows[0], rollout_logprobs=torch.full_like(good.rows[0].rollout_logprobs, value))
    return dataclasses.replace(good, rows=[row, *good.rows[1:]])


@pytest.mark.parametrize("kind", ["nan", "infinite"])
async def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(tiny_model: ModelConfig, kind: str) -> None:
    spoilt, clean = learner(tiny_model), learner(tiny_model)
    for trained in (spoilt, clean):
        await trained.update(batch())
    before = safetensors.torch.load(await spoilt.state())
    metrics = await spoilt.update(spoiled(kind))
    assert metrics["update/nonfinite"] == 1
    assert same(safetensors.torch.load(await spoilt.state()), before)
    assert (await spoilt.publish()).version == 1
    assert await spoilt.update(batch()) == await clean.update(batch())
    assert same(tensors(spoilt), tensors(clean))


async def test_a_batch_without_rows_changes_nothing(tiny_model: ModelConfig) -> None:
    trained = learner(tiny_model)
    await trained.update(batch())
    before = safetensors.torch.load(await trained.state())
    assert await trained.update(TrainBatch([], 100, 10)) == {"update/skipped": 1.0}
    assert same(safetensors.torch.load(await trained.state()), before)
    assert (await trained.publish()).version == 1


# --- scoring and publishing ---


async def test_scores_are_the_models_logprobs_and_the_bases_are_without_the_adapter(tmp_path: Path) -> None:
    save_tiny("gemma3-sliding", tmp_path)
    trained = learner(ModelConfig(name=str(tmp_path), dtype="float32"))
    base: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager").eval()
    sequences = [[5, 6], [7, 8, 9, 10, 11, 12, 13, 14, 15], [3, 3, 3]]
    with torch.no_grad():
        for model, scores in (
            (trained.shared.model, await trained.score(sequences)),
            (base, await trained.score(sequences, under="base")),
        ):
            for sequence, got in zip(sequences, scores, strict=True):
                expected = logprobs(model, sequence[:1], tuple(sequence[1:]))
                torch.testing.assert_close(torch.tensor(got), expected, rtol=1e-5, atol=1e-6)
    assert (await trained.score(sequences))[1] != (await trained.score(sequences, under="base"))[1]


async def test_what_is_published_is_the_policy_in_the_models_precision(tiny_model: ModelConfig) -> None:
    trained = learner(tiny_model.model_copy(update={"dtype": "bfloat16"}))
    await trained.update(batch())
    adapter = await trained.publish()
    published, description = unpack(adapter.payload)
    assert same(published, {name: tensor.bfloat16() for name, tensor in tensors(trained).items()})
    assert adapter.name.startswith("run-v000001-")
    assert (description.rank, description.alpha) == (2, 32.0)
    assert {tensor.dtype for tensor in tensors(trained).values()} == {torch.float32}


async def test_a_published_adapter_does_not_change_with_the_learner(tiny_model: ModelConfig) -> None:
    trained = learner(tiny_model)
    adapter = await trained.publish()
    payload = bytes(adapter.payload)
    await trained.update(batch())
    assert adapter.payload == payload
    assert (await trained.publish()).name != adapter.name


async def test_facts_count_the_adapter_and_the_model_apart(tiny_model: ModelConfig) -> None:
    facts = await learner(tiny_model).facts()
    assert facts["trained_parameters"] == 8_192
    assert 200_000 < facts["model_parameters"] < 400_000
