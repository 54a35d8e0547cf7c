"""Real vLLM, in a Ray actor as in a run: what it samples from is the adapter it was given."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.torch_learner import TorchLearner

from lora.config import LoraConfig, ModelConfig
from lora.peft.files import pack, unpack
from lora.types import Adapter
from rl.algorithm.liveness import PolicyChecker, Reference, StalePolicyError
from rl.config import LearnerConfig
from rollout.config import RolloutConfig, SamplingConfig
from rollout.ray.engine import AdapterStore, RayEngine
from rollout.ray.placement import ActorPlacement
from rollout.torch.engine import TorchEngine

pytestmark = pytest.mark.usefixtures("ray_cluster")

PROMPTS = [[10, 12, 14, 20], [21, 8, 9], [30, 31, 5, 6, 7, 12]]


def start(model: ModelConfig, lora: LoraConfig) -> RayEngine:
    config = RolloutConfig()
    return asyncio.run(RayEngine.start(model, lora, config, AdapterStore(), seed=0, place=ActorPlacement(1)))


@pytest.fixture(scope="module")
def vllm(ray_cluster: None, tiny_model: ModelConfig) -> Iterator[RayEngine]:
    engine = start(tiny_model, LoraConfig(rank=1))
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(scope="module")
def reference(tiny_model: ModelConfig) -> TorchEngine:
    return TorchEngine(tiny_model, LoraConfig(rank=1))


def sample(engine: Any, adapter: Adapter, temperature: float = 1.0, **settings: Any) -> Any:
    sampling = SamplingConfig(group_size=4, max_tokens=6, temperature=temperature, **settings)
    return asyncio.run(engine.sample(PROMPTS, adapter, sampling, seeds=[7, 8, 9]))


def completion_logprobs(engine: Any, adapter: Adapter, prompt: list[int], tokens: tuple[int, ...]) -> list[float]:
    return asyncio.run(engine.score([[*prompt, *tokens]], adapter))[0][len(prompt) - 1 :]


@pytest.mark.parametrize("rank_run", ["first", "second"])
def test_sampled_logprobs_are_the_policys_and_not_the_bases(
    vllm: RayEngine,
    reference: TorchEngine,
    tiny_model: ModelConfig,
    make_adapter: Callable[..., Adapter],
    rank_run: str,
) -> None:
    adapter = make_adapter(tiny_model, LoraConfig(rank=1), seed=3, run=rank_run)
    base = make_adapter(tiny_model, LoraConfig(rank=1), size=0.0, run="base")
    moved = 0.0
    for prompt, group in zip(PROMPTS, sample(vllm, adapter), strict=True):
        assert len(group) == 4
        for completion in group:
            assert completion.policy_version == adapter.version
            expected = completion_logprobs(reference, adapter, prompt, completion.token_ids)
            assert completion.logprobs == pytest.approx(expected, abs=2e-3)
            unmoved = completion_logprobs(reference, base, prompt, completion.token_ids)
            moved = max(moved, max(abs(a - b) for a, b in zip(expected, unmoved, strict=True)))
    assert moved > 0.1, "the adapter moved nothing, so the test could not have told it from the base"


def test_tempered_samples_carry_tempered_logprobs(
    vllm: RayEngine, tiny_model: ModelConfig, make_adapter: Callable[..., Adapter]
) -> None:
    adapter = make_adapter(tiny_model, LoraConfig(rank=1), seed=4, run="tempered")
    learner = TorchLearner("r", tiny_model, LoraConfig(rank=1), LearnerConfig(), temperature=0.5, seed=0)
    learner.policy.weights.load(unpack(adapter.payload)[0])
    model: Any = learner.shared.model  # pyright: ignore[reportPrivateUsage]
    for prompt, group in zip(PROMPTS, sample(vllm, adapter, temperature=0.5), strict=True):
        for completion in group:
            ids = torch.tensor([[*prompt, *completion.token_ids]])
            with torch.no_grad():
                logprobs = (model(ids).logits[0, :-1] / 0.5).log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
            assert completion.logprobs == pytest.approx(logprobs[len(prompt) - 1 :].tolist(), abs=2e-3)


def test_versions_in_flight_together_keep_their_own_policy(
    vllm: RayEngine, reference: TorchEngine, tiny_model: ModelConfig, make_adapter: Callable[..., Adapter]
) -> None:
    adapters = [make_adapter(tiny_model, LoraConfig(rank=1), seed=v, run="flight", version=v) for v in (1, 2, 3)]

    async def together() -> list[Any]:
        sampling = SamplingConfig(group_size=4, max_tokens=12)
        return await asyncio.gather(*(vllm.sample(PROMPTS, a, sampling, seeds=[1, 2, 3]) for a in adapters))

    for adapter, groups in zip(adapters, asyncio.run(together()), strict=True):
        for prompt, group in zip(PROMPTS, groups, strict=True):
            for completion in group:
                expected = completion_logprobs(reference, adapter, prompt, completion.token_ids)
                assert completion.logprobs == pytest.approx(expected, abs=2e-3)


def test_a_completion_ends_at_a_stop_text(
    vllm: RayEngine, tiny_model: ModelConfig, make_adapter: Callable[..., Adapter]
) -> None:
    adapter = make_adapter(tiny_model, LoraConfig(rank=1), seed=5, run="stop")
    free = [c for group in sample(vllm, adapter) for c in group]
    stop = free[0].text[0]
    stopped = [c for group in sample(vllm, adapter, stop=(stop,)) for c in group]
    assert stopped[0].finish_reason == "stop"
    assert all(stop not in c.text for c in stopped)


def test_a_long_answer_is_no_silence(
    vllm: RayEngine, tiny_model: ModelConfig, make_adapter: Callable[..., Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker at work is alive, however much longer than `stall_timeout` its first answer takes."""
    adapter = make_adapter(tiny_model, LoraConfig(rank=1), seed=6, run="long")
    sampling = SamplingConfig(group_size=200, max_tokens=56)
    prompts, seeds = [[5, 6, 7], [8, 9, 10]], [1, 2]
    sample(vllm, adapter)
    monkeypatch.setattr(vllm, "_stall_timeout", 0.4)
    started = time.monotonic()
    groups = asyncio.run(vllm.sample(prompts, adapter, sampling, seeds=seeds))
    assert time.monotonic() - started > 0.6, "it was too quick to show anything"
    assert [len(group) for group in groups] == [200, 200]


Tensors = dict[str, torch.Tensor]


def scaled(factor: float) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: t * factor if name.endswith("lora_B") else t for name, t in tensors.items()}


def shifted(tensors: Tensors) -> Tensors:
    """Every layer's matrices under the next layer's name, the last one's under the first's."""
    count = 1 + max(int(re.findall(r"layers\.(\d+)\.", name)[0]) for name in tensors)
    return {
        re.sub(r"layers\.(\d+)\.", lambda found: f"layers.{(int(found[1]) + 1) % count}.", name): tensor
        for name, tensor in tensors.items()
    }


def attention_alone(tensors: Tensors) -> Tensors:
    """Return the adapter that is left if the names of the other modules are not understood."""
    return {name: tensor if "self_attn" in name else torch.zeros_like(tensor) for name, tensor in tensors.items()}


FAULTS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "the adapter is not loaded, or the base is served": (scaled(0), "from the base model"),
    "alpha / r is left out": (scaled(1 / 32), "from the base model"),
    "the scale is doubled": (scaled(2), "at a wrong scale|from another model"),
    "an old version is served": (scaled(0.4), "from a much older policy"),
    "the previous version is served": (scaled(0.7), "from an? (much )?older policy"),
    "the keys name the wrong layers": (shifted, "from another model"),
    "the keys of some modules are not understood": (attention_alone, "from a much older policy|from another model"),
}


def test_the_real_model_agrees_within_rounding_and_planted_faults_are_named(
    ray_cluster: None, make_adapter: Callable[..., Adapter]
) -> None:
    """SmolLM2-135M in bfloat16, whose logprobs in vLLM differ from the learner's by some hundredths of a nat.

    By 0.16 on a CPU with AVX2 alone, which would hide the smaller faults: there the model is in float32.
    """
    dtype = "bfloat16" if "AVX512" in torch.backends.cpu.get_cpu_capability() else "float32"
    model, lora = ModelConfig(name="smollm2-135m", dtype=dtype, max_length=128), LoraConfig(rank=1)
    policy = make_adapter(model, lora, size=0.01, version=2)
    tensors, description = unpack(policy.payload)
    previous = Adapter(policy.run, 1, pack(scaled(0.7)(tensors), description))
    learner = TorchLearner("test", model, lora, LearnerConfig(), temperature=1.0, seed=1)
    sequences = [[1, 4093, 198, *range(500 + 40 * i, 530 + 40 * i)] for i in range(12)]
    engine = start(model, lora)

    async def check_twice(checker: PolicyChecker, served: Adapter) -> dict[str, float]:
        """Ask the engine for `served` where it should serve the policy."""
        reference = await Reference.measure(learner, policy, previous, sequences)
        await checker.check(replace(reference, adapter=served), engine)
        return await checker.check(replace(reference, adapter=served), engine)

    try:
        seen = asyncio.run(check_twice(PolicyChecker(), policy))
        assert seen["policy/sampler_difference"] < 0.1 < seen["policy/distance_from_base"]
        assert seen["policy/sampler_slope"] == pytest.approx(1, abs=0.2)
        for version, (tamper, name) in enumerate(FAULTS.values(), start=10):
            served = Adapter(policy.run, version, pack(tamper(tensors), description))
            with pytest.raises(StalePolicyError, match=f"samples .*({name}).*, not from version"):
                asyncio.run(check_twice(PolicyChecker(), served))
    finally:
        asyncio.run(engine.close())
