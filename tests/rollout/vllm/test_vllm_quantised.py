"""Real vLLM serves adapters on a base in 8 bits by its own loader: its codes, and so its logprobs, are the learner's."""

from collections.abc import Callable

import pytest
from helpers.torch_learner import TorchLearner

from lora.config import LoraConfig, ModelConfig
from lora.peft.files import unpack
from lora.types import Adapter
from rl.config import LearnerConfig
from rollout.config import RolloutConfig
from rollout.ray.engine import AdapterStore, RayEngine
from rollout.ray.placement import ActorPlacement

pytestmark = pytest.mark.usefixtures("ray_cluster")

SEQUENCES = [[10, 12, 14, 20, 8, 9], [21, 8, 9, 30, 31], [30, 31, 5, 6, 7, 12, 40, 3]]


async def test_logprobs_are_those_of_the_learners_codes(
    ray_cluster: None, make_adapter: Callable[..., Adapter]
) -> None:
    model, lora = ModelConfig(name="tiny-random", dtype="float32", max_length=64, quantization="int8"), LoraConfig()
    config = RolloutConfig()
    engine = await RayEngine.start(model, lora, config, AdapterStore(), seed=0, place=ActorPlacement(1))
    try:
        adapter = make_adapter(model, lora)
        scored = await engine.score(SEQUENCES, adapter)
    finally:
        await engine.close()
    learners = [
        TorchLearner("run", config, lora, LearnerConfig(), temperature=1.0, seed=0)
        for config in (model, model.model_copy(update={"quantization": None}))
    ]
    for learner in learners:
        learner.policy.weights.load(unpack(adapter.payload)[0])
    of_codes, of_whole_weights = [await learner.score(SEQUENCES) for learner in learners]
    for row, expected, other in zip(scored, of_codes, of_whole_weights, strict=True):
        assert row == pytest.approx(expected, abs=1e-4)
        assert row != pytest.approx(other, abs=1e-3)
