"""Every way in which an engine can sample from the wrong policy is noticed, and the right one passes."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from helpers.torch_learner import TorchLearner

from lora.config import LoraConfig, ModelConfig
from lora.peft.files import pack, unpack
from lora.types import Adapter
from rl.algorithm.liveness import (
    ALLOWANCE,
    LIMIT,
    Agreement,
    PolicyChecker,
    Reference,
    StalePolicyError,
    distinct,
    sign_test,
)
from rl.config import LearnerConfig, LivenessConfig
from rollout.config import SamplingConfig
from rollout.torch.engine import TorchEngine
from rollout.types import Completion, Engine, EngineDied

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
        for layer in learner.policy.weights.values():
            layer.lora_B.copy_(torch.randn(layer.lora_B.shape, generator=generator) * size)
    return learner, await learner.publish()


async def check(
    learner: TorchLearner, engine: Engine, adapter: Adapter, previous: Adapter | None = None
) -> dict[str, float]:
    reference = await Reference.measure(learner, adapter, previous, SEQUENCES)
    return await PolicyChecker(TOLERANCE).check(reference, engine)


@pytest.fixture(scope="module")
def engine(tiny_model: ModelConfig) -> Engine:
    return TorchEngine(tiny_model, LORA)


@pytest.mark.parametrize("size", [0.0, 0.0001, 0.002, 0.02])
async def test_the_right_policy_passes_however_far_it_has_moved(
    tiny_model: ModelConfig, engine: Engine, size: float
) -> None:
    learner, adapter = await published(tiny_model, size)
    metrics = await check(learner, engine, adapter)
    assert metrics["policy/sampler_difference"] < 1e-4
    assert metrics["policy/sampler_slope"] == pytest.approx(1, abs=1e-2)
    assert (metrics["policy/distance_from_base"] == 0) == (size == 0)


FAULTS: dict[str, tuple[Tamper, str]] = {
    "the base model": (scaled(0), "from the base model"),
    "an older version": (scaled(0.25), "from a much older policy"),
    "alpha / r left out": (scaled(1 / 16), "from the base model"),
    "half the scale": (scaled(0.5), "at a wrong scale"),
    "three quarters of the scale": (scaled(0.75), "at a wrong scale"),
    "a third too much": (scaled(1.33), "at a wrong scale"),
    "twice the scale": (scaled(2), "at a wrong scale"),
}


@pytest.mark.parametrize("size", [0.0005, 0.003])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_wrong_policy_is_named(tiny_model: ModelConfig, engine: Engine, fault: str, size: float) -> None:
    """Also where the policy has moved so little that the difference alone would pass for rounding."""
    tamper, name = FAULTS[fault]
    learner, adapter = await published(tiny_model, size)
    with pytest.raises(StalePolicyError, match=f"the engine samples .*{name}.*version 0"):
        await check(learner, Tampered(engine, tamper), adapter)


async def test_another_model_is_named(tiny_model: ModelConfig, engine: Engine) -> None:
    learner, adapter = await published(tiny_model, 0.0)
    far = Tampered(engine, lambda _: far_adapter)
    far_adapter = (await published(tiny_model, 0.05))[1]
    with pytest.raises(StalePolicyError, match="from another model"):
        await check(learner, far, adapter)


async def test_one_wrong_worker_among_right_ones_is_found(tiny_model: ModelConfig, engine: Engine) -> None:
    learner, adapter = await published(tiny_model, 0.003)
    liar = Tampered(engine, scaled(0))
    liar.name = "the second"
    with pytest.raises(StalePolicyError, match="the second samples from the base"):
        await check(learner, Several(Tampered(engine, right), liar), adapter)


class Dead(Tampered):
    """A worker that is gone."""

    def __init__(self) -> None:
        """It needs nothing."""

    async def score(self, sequences: Sequence[Sequence[int]], adapter: Adapter) -> list[list[float]]:
        raise EngineDied("it died")


async def test_a_worker_that_dies_during_the_check_is_left_to_its_pool_and_the_others_are_checked(
    tiny_model: ModelConfig, engine: Engine
) -> None:
    learner, adapter = await published(tiny_model, 0.003)
    assert await check(learner, Several(Dead()), adapter) == {}
    seen = await check(learner, Several(Dead(), Tampered(engine, right)), adapter)
    assert seen["policy/sampler_difference"] < 1e-4
    with pytest.raises(StalePolicyError):
        await check(learner, Several(Dead(), Tampered(engine, scaled(0))), adapter)


async def test_a_suspicion_stays_with_its_worker_when_others_die_and_ends_with_it(
    tiny_model: ModelConfig, engine: Engine
) -> None:
    learner, adapter = await published(tiny_model, 0.02)
    previous = scaled(0.95)(adapter)
    reference = await Reference.measure(learner, adapter, previous, SEQUENCES)

    def one_behind() -> Engine:
        return Tampered(engine, lambda _: previous)

    checker, behind = PolicyChecker(TOLERANCE), one_behind()
    await checker.check(reference, Several(Tampered(engine, right), behind))
    await checker.check(reference, Several(one_behind(), Tampered(engine, right)))  # seen for the first time
    with pytest.raises(StalePolicyError, match="from an older policy"):
        await checker.check(reference, Several(behind))


def noisy(values: Sequence[float], size: float, seed: int = 0) -> list[float]:
    noise = torch.randn(len(values), generator=torch.Generator().manual_seed(seed)) * size
    return [value + n for value, n in zip(values, noise.tolist(), strict=True)]


@pytest.mark.parametrize("moved", [0.0, 0.001, 0.01, 0.05, 0.2, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_rounding_of_bfloat16s_size_is_no_fault_however_far_the_policy_has_moved(moved: float, seed: int) -> None:
    true_base = torch.linspace(-8, -0.1, 160).tolist()
    true_policy = noisy(true_base, moved, seed=1)
    sampled, policy, base = (
        noisy(p, 0.08, seed=10 * seed + i) for i, p in enumerate((true_policy, true_policy, true_base))
    )
    assert Agreement.measure(sampled, policy, base).fault(TOLERANCE, 0.0) is None


def test_scores_that_are_not_numbers_are_a_fault() -> None:
    assert (
        Agreement.measure([math.nan, -1.0], [-1.0, -1.0], [-1.0, -1.0]).fault(TOLERANCE, 0.0)
        == "from another model or adapter"
    )


def test_the_sign_test_counts_in_standard_deviations_and_leaves_ties_out() -> None:
    assert sign_test([0.1] * 16, [0.2] * 16) == -4
    assert sign_test([0.1] * 16, [-0.05] * 16) == 4
    assert sign_test([0.1] * 16 + [0.3] * 50, [0.2, -0.05] * 8 + [0.3] * 50) == 0
    assert sign_test([0.1], [0.1]) == 0


async def test_the_version_before_the_published_one_is_noticed_within_two_checks_of_a_few_tokens(
    tiny_model: ModelConfig, engine: Engine
) -> None:
    learner, adapter = await published(tiny_model, 0.02)
    previous = scaled(0.95)(adapter)
    reference = await Reference.measure(learner, adapter, previous, SEQUENCES)
    right, stale = PolicyChecker(TOLERANCE), PolicyChecker(TOLERANCE)
    for _ in range(3):
        assert (await right.check(reference, engine))["policy/sampler_lag"] < -4
    one_behind = Tampered(engine, lambda _: previous)
    assert (await stale.check(reference, one_behind))["policy/sampler_lag"] > 4
    with pytest.raises(StalePolicyError, match=r"from an older policy, not from version 0"):
        await stale.check(reference, one_behind)


def heavy(values: Sequence[float], generator: torch.Generator) -> list[float]:
    """Rounding as it was seen on SmolLM2-135M in bfloat16: a tenth of a nat on an unlikely token, little on a likely
    one."""
    scale = [0.1 if value < -0.5 else 0.0017 for value in values]
    noise = torch.randn(len(values), generator=generator).tolist()
    return [value + s * n for value, s, n in zip(values, scale, noise, strict=True)]


@pytest.mark.parametrize("moved", [0.0, 0.003, 0.15, 0.5])
def test_rounding_is_not_taken_for_an_older_policy_in_a_thousand_checks(moved: float) -> None:
    """The moves' sizes go by the token as rounding's do, the origin's rounding is in both moves, and the older policy
    is found as soon as it can be told apart at all."""
    generator = torch.Generator().manual_seed(0)
    likely, unlikely = [-0.01] * 210, torch.linspace(-8, -0.6, 75).tolist()
    base = [*likely, *unlikely]
    previous_true = [b + 0.5 * min(1.0, -b) for b in base]
    move = [moved * min(1.0, -b) * (1 if i % 2 else -1) for i, b in enumerate(base)]
    policy_true = [p + m for p, m in zip(previous_true, move, strict=True)]
    right = stale = worst = 0.0
    for _ in range(1000):
        policy, previous = heavy(policy_true, generator), heavy(previous_true, generator)
        seen = Agreement.measure(heavy(policy_true, generator), policy, base, previous)
        right = max(0.0, right + seen.lag - ALLOWANCE)
        worst = max(worst, right)
        assert seen.fault(TOLERANCE, right) is None
        stale += max(-1e3, Agreement.measure(heavy(previous_true, generator), policy, base, previous).lag - ALLOWANCE)
    assert (stale > LIMIT) == (moved > 0.1)


def test_what_sequences_share_is_counted_once() -> None:
    assert distinct([[1, 2, 3], [1, 2, 4], [9, 2]], [[0.1, 0.2], [0.1, 0.3], [0.4]]) == [0.1, 0.2, 0.3, 0.4]


async def test_a_restarted_replica_is_admitted_until_there_is_a_reference_and_then_liars_are_kept_out(
    tiny_model: ModelConfig, engine: Engine
) -> None:
    learner, adapter = await published(tiny_model, 0.01)
    checker = PolicyChecker(TOLERANCE)
    await checker.check_restarted(Tampered(engine, scaled(0)))
    checker.reference = await Reference.measure(learner, adapter, None, SEQUENCES)
    await checker.check_restarted(engine)
    with pytest.raises(StalePolicyError, match="the engine, restarted, samples from the base model"):
        await checker.check_restarted(Tampered(engine, scaled(0)))


def test_the_figures_are_those_of_exact_sums() -> None:
    """Sums in numpy round; these are `math.fsum`'s, correctly rounded, on moves of all sizes."""
    generator = torch.Generator().manual_seed(5)
    for scale in (1e-6, 1e-2, 10.0):
        sampled, policy, base, previous = (
            (torch.randn(2000, generator=generator, dtype=torch.float64) * scale - 3).tolist() for _ in range(4)
        )
        agreement = Agreement.measure(sampled, policy, base, previous)
        moves = [(s - b, p - b) for s, p, b in zip(sampled, policy, base, strict=True)]
        size = math.fsum(move * move for _, move in moves)
        slope = math.fsum(seen * move for seen, move in moves) / size
        residual = math.fsum((seen - slope * move) ** 2 for seen, move in moves)
        mean = math.fsum(abs(s - p) for s, p in zip(sampled, policy, strict=True)) / len(sampled)
        nearer = sum(
            math.copysign(1, abs(s - p) - abs(s - b)) for s, p, b in zip(sampled, policy, previous, strict=True)
        )
        assert agreement.from_base.value == pytest.approx(slope, rel=1e-12)
        assert agreement.from_base.clarity == pytest.approx(math.sqrt(size / residual), rel=1e-12)
        assert agreement.difference == pytest.approx(mean, rel=1e-12)
        assert agreement.lag == pytest.approx(nearer / math.sqrt(len(sampled)), rel=1e-12)
