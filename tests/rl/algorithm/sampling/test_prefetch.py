"""Rollouts ahead of the learner: which policy samples which step, what overlaps, and what becomes of failures."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from helpers.fakes import ScriptedEngine
from helpers.loop import EXAMPLE, SMALL, EagerGrader, configuration, parts_of, run, split_of, timeless
from helpers.torch_learner import TorchLearner

from lora.types import Adapter
from rl.algorithm.sampling.prefetch import Rollout, RolloutPrefetcher
from rl.cluster.components import with_room
from rl.cluster.placement import GpuShares
from rl.cluster.workers import open_workers
from rl.run.directory import RunDirectory
from rl.run.journal import FileJournal
from rl.run.sinks import Sinks
from rl.train import train
from rl.types import TrainBatch
from rollout.config import RolloutConfig, SamplingConfig
from rollout.ray.engine import RayEngine
from rollout.ray.placement import ActorPlacement
from rollout.torch.engine import TorchEngine
from rollout.types import Completion, Engine, EngineDied

assert EXAMPLE.exists()


def adapter(version: int) -> Adapter:
    return Adapter("run", version, b"")


@pytest.mark.parametrize("ahead", [0, 1, 3])
async def test_the_policy_that_samples_a_step_is_a_function_of_the_step(ahead: int) -> None:
    sampled: dict[int, int] = {}

    async def begin(step: int, policy: Adapter) -> Rollout:
        sampled[step] = policy.version
        await asyncio.sleep(0)
        return Rollout([], {})

    async with RolloutPrefetcher(begin, ahead, last=8) as coming:
        for step in range(8):
            await coming.get(step, adapter(step))
    assert sampled == {step: max(0, step - ahead) for step in range(8)}


async def test_a_failure_reaches_who_waits_for_it_and_ends_what_is_under_way() -> None:
    ended: list[int] = []

    async def begin(step: int, policy: Adapter) -> Rollout:
        if step == 1:
            raise EngineDied("gone")
        try:
            await asyncio.sleep(30 * (step > 1))
        except asyncio.CancelledError:
            ended.append(step)
            raise
        return Rollout([], {})

    async def take_all() -> None:
        async with RolloutPrefetcher(begin, 2, last=9) as coming:
            for step in range(9):
                await coming.get(step, adapter(step))

    with pytest.raises(EngineDied, match="gone"):
        await take_all()
    assert ended == [2]
    assert len(asyncio.all_tasks()) == 1


async def test_dropped_rollouts_are_begun_again_by_the_policy_that_is_there_then() -> None:
    sampled: list[tuple[int, int]] = []

    async def begin(step: int, policy: Adapter) -> Rollout:
        sampled.append((step, policy.version))
        await asyncio.sleep(0.001)
        return Rollout([], {})

    async with RolloutPrefetcher(begin, 1, last=9) as coming:
        await coming.get(0, adapter(0))
        await coming.cancel_all()
        await coming.get(1, adapter(7))
    assert sampled == [(0, 0), (1, 0), (1, 7), (2, 7)]


@pytest.mark.parametrize("disjoint_devices", [False, True])
@pytest.mark.parametrize("configured", [None, 0, 1, 3])
async def test_the_loop_and_the_engines_agree_on_how_far_rollouts_run_ahead(
    monkeypatch: pytest.MonkeyPatch, configured: int | None, disjoint_devices: bool
) -> None:
    """The loop's steps, and the versions that a run's engines and a sweep's have room for: one more a policy."""
    expected = {None: int(disjoint_devices), 0: 0, 1: 1, 3: 3}[configured]
    config = configuration("rollout.adapters_in_flight=1").model_copy(update={"max_off_policy_steps": configured})
    room: list[int] = []

    class Asked(Exception):
        """With that number of steps."""

    class AskedRollouts(RolloutPrefetcher):
        def __init__(self, begin: object, ahead: int, last: int) -> None:
            raise Asked(ahead)

    async def note(
        _cls: object, _model: object, _lora: object, rollout: RolloutConfig, *_: object, **__: object
    ) -> Engine:
        room.append(rollout.adapters_in_flight)
        return ScriptedEngine([])

    monkeypatch.setattr("rl.train.RolloutPrefetcher", AskedRollouts)
    monkeypatch.setattr(RayEngine, "start", classmethod(note))
    parts = replace(parts_of(config, EagerGrader()), disjoint_devices=disjoint_devices)
    journal: Any = SimpleNamespace(restore=AsyncMock(return_value=0), history=list, unlearned=tuple, drawn=dict)
    with pytest.raises(Asked, match=str(expected)):
        await train(config, split_of(config), parts, journal)

    shares = GpuShares(float(disjoint_devices), float(disjoint_devices), 1)
    held: Any = SimpleNamespace(
        request=SimpleNamespace(shares=shares), worker=lambda _: ActorPlacement(1), wait_for_worker=AsyncMock()
    )
    two = [config, config.model_copy(update={"max_off_policy_steps": 0})]
    for one, lora in ((config, config.lora), (with_room(two, 5, disjoint_devices), config.lora)):
        async with open_workers(one, held, lora):
            pass
    assert room == [1 + expected, 5 * (1 + expected)]


async def test_a_run_one_step_ahead_learns_from_the_policy_before_the_last_update(tmp_path: Path) -> None:
    config = configuration(*SMALL, "max_off_policy_steps=1", "num_steps=20", "learner.lr=0.01", "problems_per_step=16")
    directory = await run(config, tmp_path / "run", EagerGrader())
    steps = [row for row in directory.metrics() if "policy/version_lag" in row]
    assert [row["policy/version_lag"] for row in steps[:5]] == [0, 1, 1, 1, 1]
    assert {row["policy/version_lag"] for row in steps} == {0, 1}, "0 again where the step before had no signal"
    assert all(row["update/kl_sampler_learner"] > 1e-6 for row in steps[1:5]), "the sampler is another policy"
    assert steps[-1]["reward/mean"] > 0.9
    assert {"time/wait_s", "time/sample_s", "time/step_s"} <= steps[3].keys()


async def test_no_step_ahead_is_the_default_in_one_process_and_the_policy_is_always_the_newest(tmp_path: Path) -> None:
    given = await run(configuration(*SMALL, "max_off_policy_steps=0"), tmp_path / "given", EagerGrader())
    default = await run(configuration(*SMALL), tmp_path / "default", EagerGrader())
    assert timeless(default) == timeless(given)
    assert {row["policy/version_lag"] for row in default.metrics() if "policy/version_lag" in row} == {0.0}


@pytest.mark.parametrize("ahead", [0, 1])
async def test_one_step_ahead_the_learner_works_while_the_engine_samples(tmp_path: Path, ahead: int) -> None:
    """Learner and engine that wait, as for devices of their own."""
    sampling: list[tuple[float, float]] = []
    updating: list[tuple[float, float]] = []

    async def wait(into: list[tuple[float, float]], began: float) -> None:
        await asyncio.sleep(0.1)
        into.append((began, time.perf_counter()))

    class SlowEngine(TorchEngine):
        async def sample(
            self, prompts: Sequence[Sequence[int]], adapter: Adapter, config: SamplingConfig, *, seeds: Sequence[int]
        ) -> list[list[Completion]]:
            began = time.perf_counter()  # a busy machine may take longer to sample than the learner waits
            sampled = await super().sample(prompts, adapter, config, seeds=seeds)
            if config.group_size > 1:
                await wait(sampling, began)
            return sampled

    class SlowLearner(TorchLearner):
        async def update(self, batch: TrainBatch, *, lr_scale: float = 1.0) -> dict[str, float]:
            await wait(updating, time.perf_counter())
            return await super().update(batch, lr_scale=lr_scale)

    config = configuration(*SMALL, f"max_off_policy_steps={ahead}", "num_steps=9", "evaluate.every=9")
    parts = parts_of(config, EagerGrader())
    learner = SlowLearner("run", config.model, config.lora, config.learner, temperature=1.0, seed=0)
    parts = replace(parts, engine=SlowEngine(config.model, config.lora), learner=learner)
    directory = RunDirectory.create(tmp_path / "run", config)
    await train(config, split_of(config), parts, FileJournal(directory, Sinks([]), resume=False))
    both = sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in sampling for b in updating)
    whole = sum(end - began for began, end in updating)
    assert (both > whole / 2) if ahead else (both == 0)
