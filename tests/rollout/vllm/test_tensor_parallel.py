"""A worker whose model is divided among several processes, which are its own and not Ray's to place."""

import os
import signal
from collections.abc import Callable

import psutil
import pytest
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from lora.config import LoraConfig, ModelConfig
from lora.types import Adapter
from rollout.config import RolloutConfig, SamplingConfig
from rollout.ray.engine import AdapterStore, RayEngine
from rollout.ray.placement import ActorPlacement
from rollout.torch.engine import TorchEngine

PROMPTS = [[10, 12, 14, 20], [21, 8, 9]]


@pytest.mark.usefixtures("ray_cluster")
async def test_vllm_divides_a_model_inside_one_bundle_and_leaves_no_process(
    tiny_model: ModelConfig, make_adapter: Callable[..., Adapter]
) -> None:
    """In a run's kind of placement group, where vLLM left to itself would have Ray place a process a bundle."""
    lora, config = LoraConfig(rank=1, lm_head=True), RolloutConfig(tensor_parallel_size=2)
    adapter = make_adapter(tiny_model, lora)
    group = placement_group([{"CPU": 0.1}])
    bundle = PlacementGroupSchedulingStrategy(group, 0, placement_group_capture_child_tasks=False)
    place = ActorPlacement(1, options={"scheduling_strategy": bundle})
    engine = await RayEngine.start(tiny_model, lora, config, AdapterStore(), seed=0, place=place)
    try:
        actor = psutil.Process(await engine.pid())
        family = actor.children(recursive=True)
        assert len([process for process in family if "VLLM::Worker" in process.name()]) == 2
        sampling = SamplingConfig(group_size=3, max_tokens=6)
        groups = await engine.sample(PROMPTS, adapter, sampling, seeds=[1, 2])
        reference = TorchEngine(tiny_model, lora)
        for prompt, completions in zip(PROMPTS, groups, strict=True):
            for completion in completions:
                (expected,) = await reference.score([[*prompt, *completion.token_ids]], adapter)
                assert completion.logprobs == pytest.approx(expected[len(prompt) - 1 :], abs=2e-3)
        scored, expected = [await each.score(PROMPTS, adapter) for each in (engine, reference)]
        assert scored == [pytest.approx(row, abs=2e-3) for row in expected], "adapters of the head have their part"
        os.kill(actor.pid, signal.SIGKILL)
        _, left = psutil.wait_procs(family, timeout=60)
        assert left == [], "they keep no GPU when the worker is gone"
    finally:
        engine.kill()
        remove_placement_group(group)
