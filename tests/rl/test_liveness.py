"""Every way in which an engine can sample from the wrong policy is noticed, and the right one passes."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch

from lora.config import LoraConfig, ModelConfig
from lora.files import pack, unpack
from lora.types import Adapter
from rl.config import LearnerConfig, LivenessConfig
from rl.learner import TorchLearner
from rl.liveness import Agreement, StalePolicyError, check_liveness
from rollout.config import SamplingConfig
from rollout.torch_engine import TorchEngine
from rollout.types import Completion, Engine

LORA = LoraConfig(rank=2)
SEQUENCES = [[5, 6, 7, 8, 9, 10, 11], [30, 31, 12, 13, 14, 15, 16], [3, 4, 5, 40, 41, 42, 43]]
TOLERANCE = LivenessConfig().tolerance

Tamper = Callable[[Adapter], Adapter]


class Tampered(Engine):
    """A real engine that is given another adapter than the one it was asked for."""

    def __init__(self, engine: Engine, tamper: Tamper) -> None:
        self._engine, self._tamper = engine, tamper

    async def sample(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        return await self._engine.sample(prompts, self._tamper(adapter), sampling, seeds=seeds)

    async def score(self, sequences: Sequence[Sequence[int]], adapter: Adapter) -> list[list[float]]:
        return await self._engine.score(sequences, self._tamper(adapter))

    def replicas(self) -> Sequence[Engine]:
        return [self]

    async def close(self) -> None:
        """Nothing to release."""


class Several(Tampered):
    """Several engines, of which some lie."""

    def __init__(self, *engines: Engine) -> None:
        self._engines = engines

    def replicas(self) -> Sequence[Engine]:
        return self._engines


def scaled(factor: float) -> Tamper:
    """The adapter as an older version on the same way, or at another scale."""

    def tamper(adapter: Adapter) -> Adapter:
        tensors, description = unpack(adapter.payload)
        changed = {name: t * factor if name.endswith("lora_B") else t for name, t in tensors.items()}
        return Adapter(f"{adapter.run}-{factor}", adapter.version, pack(changed, description))

    return tamper


def right(adapter: Adapter) -> Adapter:
    return adapter


async def published(model: ModelConfig, size: float) -> tuple[TorchLearner, Adapter]:
    """A learner whose policy is some way from the base, and that policy."""
    learner = TorchLearner(f"run-{size}", model, LORA, LearnerConfig(), temperature=1.0, seed=0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in learner.policy.layers.values():
            layer.lora_B.copy_(torch.randn(layer.lora_B.shape, generator=generator) * size)
    return learner, await learner.publish()


@pytest.fixture(scope="module")
def engine(tiny_model: ModelConfig) -> Engine:
    return TorchEngine(tiny_model, LORA)


@pytest.mark.parametrize("size", [0.0, 0.0001, 0.002, 0.02])
async def test_the_right_policy_passes_however_far_it_has_moved(
    tiny_model: ModelConfig, engine: Engine, size: float
) -> None:
    learner, adapter = await published(tiny_model, size)
    metrics = await check_liveness(learner, engine, adapter, SEQUENCES, TOLERANCE)
    assert metrics["policy/sampler_difference"] < 1e-4
    assert metrics["policy/sampler_slope"] == pytest.approx(1, abs=1e-2)
    assert (metrics["policy/distance_from_base"] == 0) == (size == 0)


FAULTS: dict[str, tuple[Tamper, str]] = {
    "the base model": (scaled(0), "from the base model or an older policy"),
    "an older version": (scaled(0.25), "from the base model or an older policy"),
    "twice the scale": (scaled(2), "at a wrong scale"),
}


@pytest.mark.parametrize("size", [0.0005, 0.003])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_wrong_policy_is_named(tiny_model: ModelConfig, engine: Engine, fault: str, size: float) -> None:
    """Also where the policy has moved so little that the difference alone would pass for rounding."""
    tamper, name = FAULTS[fault]
    learner, adapter = await published(tiny_model, size)
    with pytest.raises(StalePolicyError, match=f"worker 0 samples .*{name}.*version 0"):
        await check_liveness(learner, Tampered(engine, tamper), adapter, SEQUENCES, TOLERANCE)


async def test_another_model_is_named(tiny_model: ModelConfig, engine: Engine) -> None:
    learner, adapter = await published(tiny_model, 0.0)
    far = Tampered(engine, lambda _: far_adapter)
    far_adapter = (await published(tiny_model, 0.05))[1]
    with pytest.raises(StalePolicyError, match="from another model"):
        await check_liveness(learner, far, adapter, SEQUENCES, TOLERANCE)


async def test_one_wrong_worker_among_right_ones_is_found(tiny_model: ModelConfig, engine: Engine) -> None:
    learner, adapter = await published(tiny_model, 0.003)
    several = Several(Tampered(engine, right), Tampered(engine, scaled(0)))
    with pytest.raises(StalePolicyError, match="worker 1"):
        await check_liveness(learner, several, adapter, SEQUENCES, TOLERANCE)


def noisy(values: Sequence[float], size: float, seed: int = 0) -> list[float]:
    noise = torch.randn(len(values), generator=torch.Generator().manual_seed(seed)) * size
    return [value + n for value, n in zip(values, noise.tolist(), strict=True)]


@pytest.mark.parametrize("moved", [0.0, 0.001, 0.01, 0.05, 0.2, 1.0])
def test_rounding_of_bfloat16s_size_is_no_fault_however_far_the_policy_has_moved(moved: float) -> None:
    base = torch.linspace(-8, -0.1, 160).tolist()
    policy = noisy(base, moved, seed=1)
    assert Agreement.measure(noisy(policy, 0.08), policy, base).fault(TOLERANCE) is None


def test_scores_that_are_not_numbers_are_a_fault() -> None:
    assert Agreement.measure([math.nan, -1.0], [-1.0, -1.0], [-1.0, -1.0]).fault(TOLERANCE) == "from another model"
