"""Real vLLM serves adapters on experts: its logprobs are the learner's, with the adapter and without, and so are the experts
that it returns."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.torch_learner import TorchLearner
from transformers import AutoModelForCausalLM, Qwen3MoeConfig

from lora.base.router_replay import Recording, routers_of
from lora.base.tiny_model import tiny_tokenizer
from lora.config import LoraConfig, ModelConfig
from lora.types import Adapter
from rl.algorithm.liveness import Reference
from rl.config import LearnerConfig
from rollout.config import RolloutConfig, SamplingConfig
from rollout.ray.engine import AdapterStore, RayEngine
from rollout.ray.placement import ActorPlacement

pytestmark = pytest.mark.usefixtures("ray_cluster")

SEQUENCES = [[10, 12, 14, 20, 8, 9], [21, 8, 9, 30, 31], [30, 31, 5, 6, 7, 12, 40, 3]]
LORA = LoraConfig(rank=2)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    """A tiny random Qwen3-MoE: 4 experts of which 2 are active. Heads have 32 dimensions, the fewest on a CPU."""
    path: Path = tmp_path_factory.mktemp("models") / "qwen3-moe"
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config: Any = Qwen3MoeConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2,
        norm_topk_prob=True, initializer_range=0.1, max_position_embeddings=512,
        bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(str(path))
    tokenizer.save_pretrained(str(path))
    return ModelConfig(name=str(path), dtype="float32", max_length=64)


@pytest.fixture(scope="module")
def vllm(ray_cluster: None, mixture: ModelConfig) -> Iterator[RayEngine]:
    config = RolloutConfig(return_routed_experts=True)
    engine = asyncio.run(RayEngine.start(mixture, LORA, config, AdapterStore(), seed=0, place=ActorPlacement(1)))
    yield engine
    asyncio.run(engine.close())


def learner_of(mixture: ModelConfig, seed: int) -> TorchLearner:
    """One that has moved already, in experts and elsewhere."""
    learner = TorchLearner(f"run{seed}", mixture, LORA, LearnerConfig(), temperature=1.0, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in learner.policy.weights.tensors().items():
            if name.endswith("lora_B"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.03)
    return learner


def publish(learner: TorchLearner) -> Adapter:
    return asyncio.run(learner.publish())


def test_logprobs_are_the_learners_with_every_adapter_and_not_the_bases(vllm: RayEngine, mixture: ModelConfig) -> None:
    for seed in (1, 2):
        learner = learner_of(mixture, seed)
        mine, base = (asyncio.run(learner.score(SEQUENCES, under=u)) for u in ("policy", "base"))  # type: ignore[arg-type]
        theirs = asyncio.run(vllm.score(SEQUENCES, publish(learner)))
        for row in range(len(SEQUENCES)):
            assert theirs[row] == pytest.approx(mine[row], abs=2e-3)
            assert max(abs(t - b) for t, b in zip(theirs[row], base[row], strict=True)) > 0.1


def test_two_policies_are_served_in_one_batch(vllm: RayEngine, mixture: ModelConfig) -> None:
    learners = [learner_of(mixture, seed) for seed in (3, 4)]

    async def together() -> list[list[list[float]]]:
        adapters = [await learner.publish() for learner in learners]
        return await asyncio.gather(*(vllm.score(SEQUENCES, adapter) for adapter in adapters))

    for learner, theirs in zip(learners, asyncio.run(together()), strict=True):
        for mine, other in zip(asyncio.run(learner.score(SEQUENCES)), theirs, strict=True):
            assert other == pytest.approx(mine, abs=2e-3)


def test_what_is_sampled_is_the_policys_and_passes_the_liveness_check(vllm: RayEngine, mixture: ModelConfig) -> None:
    learner = learner_of(mixture, 5)
    adapter = publish(learner)
    sampling = SamplingConfig(group_size=2, max_tokens=6)
    for prompt, completions in zip(
        SEQUENCES, asyncio.run(vllm.sample(SEQUENCES, adapter, sampling, seeds=[1, 2, 3])), strict=True
    ):
        for completion in completions:
            scored = asyncio.run(learner.score([[*prompt, *completion.token_ids]]))[0][len(prompt) - 1 :]
            assert list(completion.logprobs) == pytest.approx(scored, abs=2e-3)

    async def agreement() -> Any:
        return await (await Reference.measure(learner, adapter, None, SEQUENCES)).compare(vllm)

    assert asyncio.run(agreement()).fault(0.05, 0.0) is None


def test_experts_come_with_what_is_sampled_also_of_prompts_that_were_read_before(
    vllm: RayEngine, mixture: ModelConfig
) -> None:
    """The prompt fills more than a block of vLLM's cache, which keeps experts beside keys and values."""
    learner = learner_of(mixture, 6)
    adapter, sampling = publish(learner), SamplingConfig(group_size=2, max_tokens=6)
    prompt = [3 + i % 40 for i in range(41)]
    routers = routers_of(learner.shared.model)
    for seed in (1, 2):
        (group,) = asyncio.run(vllm.sample([prompt], adapter, sampling, seeds=[seed]))
        for completion in group:
            ids = torch.tensor([[*prompt, *completion.token_ids[:-1]]])
            with torch.no_grad(), learner.policy.weights.exclusively(), routers.under(recording := Recording()):
                learner.shared.model(ids)
            expected = recording.experts(routers.num_blocks).sort(-1).values
            assert completion.routed_experts is not None
            experts = torch.tensor(completion.routed_experts.array.tolist()).sort(-1).values
            assert torch.equal(experts, expected)
