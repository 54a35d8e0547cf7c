"""Real vLLM, in a Ray actor as in a sweep: adapters of several ranks and layers in one batch, each served as itself."""

import asyncio
from collections.abc import Callable

import pytest

from lora.config import LoraConfig, ModelConfig
from lora.types import Adapter
from rl.cluster.components import largest_adapter
from rl.config import RunConfig
from rollout.config import RolloutConfig, SamplingConfig
from rollout.ray.engine import AdapterStore, RayEngine
from rollout.ray.placement import ActorPlacement
from rollout.torch.engine import TorchEngine
from rollout.types import Completion

PROMPTS = [[10, 12, 14, 20], [21, 8, 9], [30, 31, 5, 6, 7, 12]]
SEEDS = [7, 8, 9]
SHAPES = [
    LoraConfig(rank=1),
    LoraConfig(rank=2, alpha=16),
    LoraConfig(rank=4, targets=("gate_proj", "up_proj", "down_proj")),
    LoraConfig(rank=2, lm_head=True),
    LoraConfig(rank=8, targets=("q_proj", "v_proj")),
]
SEQUENCES = [[10, 12, 14, 20, 3, 9, 4], [21, 8, 9], [*range(3, 40), *range(5, 15)], [5, 6]]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("fused", [False, True], ids=["by operators", "fused by the compiler"])
async def test_adapters_of_several_ranks_in_one_batch_are_each_served_and_scored_as_themselves(
    fused: bool, tiny_model: ModelConfig, make_adapter: Callable[..., Adapter]
) -> None:
    adapters = [make_adapter(tiny_model, lora, seed=i, run=f"run{i}") for i, lora in enumerate(SHAPES)]
    config = RolloutConfig(adapters_in_flight=len(adapters), fuse_adapters=fused, enforce_eager=not fused)
    lora = largest_adapter([RunConfig(lora=lora) for lora in SHAPES])
    vllm = await RayEngine.start(tiny_model, lora, config, AdapterStore(8), seed=0, place=ActorPlacement(1))
    try:
        sampling = SamplingConfig(group_size=4, max_tokens=8)
        calls = [vllm.sample(PROMPTS, adapter, sampling, seeds=SEEDS) for adapter in adapters]
        together = await asyncio.gather(*calls)
        long = SamplingConfig(group_size=16, max_tokens=50)
        busy = [asyncio.create_task(vllm.sample(PROMPTS, adapter, long, seeds=SEEDS)) for adapter in adapters]
        scored = await asyncio.gather(*(vllm.score(SEQUENCES, adapter) for adapter in adapters))
        assert not all(task.done() for task in busy), "the scores were made beside completions of other adapters"
        await asyncio.gather(*busy)
    finally:
        await vllm.close()
    reference = TorchEngine(tiny_model, LoraConfig())
    for adapter, completions_P_G, scores in zip(adapters, together, scored, strict=True):
        for other in adapters:
            off = await difference(reference, other, completions_P_G)
            assert (off < 2e-3) == (other is adapter), (adapter.run, other.run, off)
            theirs = await reference.score(SEQUENCES, other)
            off = max(
                abs(a - b) for ours, row in zip(scores, theirs, strict=True) for a, b in zip(ours, row, strict=True)
            )
            assert (off < 2e-3) == (other is adapter), (adapter.run, other.run, off)


async def difference(engine: TorchEngine, adapter: Adapter, completions_P_G: list[list[Completion]]) -> float:
    """Return the largest distance of sampled logprobs from those that the adapter gives these tokens."""
    pairs: list[tuple[float, float]] = []
    for prompt, group in zip(PROMPTS, completions_P_G, strict=True):
        for completion in group:
            (scores,) = await engine.score([[*prompt, *completion.token_ids]], adapter)
            pairs += zip(completion.logprobs, scores[len(prompt) - 1 :], strict=True)
    return max(abs(a - b) for a, b in pairs)


async def test_the_torch_engine_serves_adapters_of_any_shape_in_turn(
    tiny_model: ModelConfig, make_adapter: Callable[..., Adapter]
) -> None:
    adapters = [make_adapter(tiny_model, lora, seed=i, run=f"run{i}") for i, lora in enumerate(SHAPES)]
    one = TorchEngine(tiny_model, LoraConfig())
    sampling = SamplingConfig(group_size=2, max_tokens=4)
    for adapter in [*adapters, *reversed(adapters)]:
        lora = SHAPES[adapters.index(adapter)]
        own = await TorchEngine(tiny_model, lora).sample(PROMPTS, adapter, sampling, seeds=SEEDS)
        assert await one.sample(PROMPTS, adapter, sampling, seeds=SEEDS) == own
