"""Several learners that share a step's rows make the update that one would make."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.fakes import made_groups
from helpers.hybrids import save_hybrid
from helpers.torch_learner import TorchLearner

from lora.config import LoraConfig, ModelConfig
from lora.layers.experts import PROJECTIONS
from lora.peft.files import unpack
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.minibatches import with_old_policy
from rl.algorithm.batch.packing import build_batch, split_rows
from rl.cluster.placement import Request
from rl.cluster.ray_host import RayHost
from rl.config import LearnerConfig, RunConfig
from rl.learner.bases.frozen_model import FrozenSpec
from rl.learner.joint_updates import JointUpdates, PolicyLearner
from rl.learner.policies.policy import AdamConfig, PolicySpec
from rl.learner.policy_host import LearnerSpec, PolicyUpdate
from rl.types import Group, Learner, LearnerDied, TrainBatch
from rollout.ray.placement import ActorPlacement
from rollout.types import Completion, RoutedExperts


def batch(seed: int, groups: int = 5) -> TrainBatch:
    made = made_groups(seed, groups=groups, size=4)
    return build_batch(made, [advantages(group.rewards) for group in made], 40)


def arguments(
    model: ModelConfig, *, lm_head: bool = False, targets: tuple[str, ...] = (), **settings: Any
) -> dict[str, Any]:
    config = LearnerConfig(lr=1e-2, tokens_per_microbatch=64, **settings)
    lora = LoraConfig(rank=2, lm_head=lm_head, **({"targets": targets} if targets else {}))
    return {"run": "run", "model": model, "lora": lora, "config": config, "temperature": 1.0, "seed": 3}


KINDS = {
    "whole models": (False, False), "whole models, recomputed": (False, True),
    "sharded models, recomputed": (True, True), "sharded models": (True, False),
}  # fmt: skip
"""Pairs of learners by name: whether they are sharded, and whether they have gradient checkpointing."""
FIRST_KINDS = list(KINDS)
"""Tests that are not of all kinds are of the first ones: pytest brings together what has the same place in its list."""


def start(model: ModelConfig, *, shard: bool = False, again: bool = False) -> RayHost:
    """Start two learners, each with a teacher that is such a model."""
    config = LearnerConfig(lr=1e-2, tokens_per_microbatch=64, num_learners=2, shard=shard, gradient_checkpointing=again)
    return asyncio.run(
        RayHost.start(
            LearnerSpec(model, "cpu", config, teacher=FrozenSpec(model)), lambda rank: ActorPlacement(threads=1)
        )
    )


@dataclass(frozen=True)
class Pair:
    host: RayHost
    recomputes: bool


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, ray_cluster: None, tiny_model: ModelConfig) -> Iterator[Pair]:
    """Two learners for all tests of their kind, which have policies of their own."""
    shard, recomputes = KINDS[request.param]
    host = start(tiny_model, shard=shard, again=recomputes)
    yield Pair(host, recomputes)
    asyncio.run(host.close())


@asynccontextmanager
async def policy_on(host: RayHost, made_of: dict[str, Any]) -> AsyncGenerator[PolicyLearner]:
    learner = await JointUpdates(host).register(spec_of(made_of))
    try:
        yield learner
    finally:
        await learner.close()
        await host.remove(made_of["run"])


def spec_of(made_of: dict[str, Any]) -> PolicySpec:
    return PolicySpec(made_of["run"], made_of["lora"], made_of["config"], made_of["temperature"], made_of["seed"])


async def assert_same_policy(one: Learner, other: Learner) -> None:
    mine, theirs = [unpack((await learner.publish()).payload)[0] for learner in (one, other)]
    for name, tensor in theirs.items():
        assert (mine[name] - tensor).norm() <= 1e-4 * max(tensor.norm(), 1e-3), name


def test_rows_are_divided_whole_and_about_equally() -> None:
    rows = batch(0, groups=20).rows
    shares = split_rows(rows, 3)
    assert sorted(id(row) for share in shares for row in share) == sorted(map(id, rows))
    loads = [sum(len(row.token_ids) for row in share) for share in shares]
    assert max(loads) - min(loads) <= max(len(row.token_ids) for row in rows)
    assert split_rows(rows[:1], 2) == [[rows[0]], []]


async def test_two_learners_make_the_update_of_one(pair: Pair, tiny_model: ModelConfig) -> None:
    """Where activations are computed again, the policy adapts the head, too."""
    lm_head = pair.recomputes
    alone = TorchLearner(**arguments(tiny_model, lm_head=lm_head))
    async with policy_on(pair.host, arguments(tiny_model, lm_head=lm_head)) as two:
        for step, groups in enumerate((5, 1, 4)):  # with one group, one learner has no rows
            mine, theirs = await two.update(batch(step, groups)), await alone.update(batch(step, groups))
            assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-6)
            await assert_same_policy(two, alone)
        assert await two.update(TrainBatch([], 10, 1)) == {"update/skipped": 1.0}
        sequences = [[5, 6, 7, 8], [9, 10, 11]]
        for under in ("policy", "base"):
            scored, expected = await two.score(sequences, under=under), await alone.score(sequences, under=under)
            assert [s == pytest.approx(e, abs=1e-4) for s, e in zip(scored, expected, strict=True)] == [True, True]
        taught = await two.score(sequences, under="teacher")
        assert [s == pytest.approx(e, abs=1e-4) for s, e in zip(taught, expected, strict=True)] == [True, True]


async def test_two_learners_keep_to_the_base_and_take_minibatches_as_one_does(
    pair: Pair, tiny_model: ModelConfig
) -> None:
    """A sharded model computes the base model's logprobs beside the policy's own, its parts gathered for both."""
    options = arguments(tiny_model, kl_coef=0.3, entropy_coef=0.2, aggregation="sequence", objective="ppo")
    alone = TorchLearner(**options)
    async with policy_on(pair.host, options) as two:
        for step, count in enumerate((4, 1)):
            groups = made_groups(step, groups=count, size=4)
            advised = [advantages(group.rewards) for group in groups]
            whole = build_batch(groups, advised, 40, keep_all=True)
            old, expected = await two.logprobs(whole), await alone.logprobs(whole)
            rows = [with_old_policy(row, o, options["config"]) for row, o in zip(whole.rows, old, strict=True)]
            torch.testing.assert_close(torch.cat(old), torch.cat(expected), rtol=1e-4, atol=1e-4)
            step_batch = replace(whole, rows=rows)
            metrics = await two.update(step_batch)
            assert metrics == pytest.approx(await alone.update(step_batch), rel=1e-3, abs=1e-6)
            await assert_same_policy(two, alone)
        assert metrics["update/kl_base"] > 0
        sequences = [[5, 6, 7], [9, 10, 11, 12], [13, 14], [15, 16, 17, 18, 19]]  # divided among learners, too
        pairs = zip(await two.score(sequences, under="base"), await alone.score(sequences, under="base"), strict=True)
        assert all(scores == pytest.approx(expected_scores, abs=1e-4) for scores, expected_scores in pairs)


@pytest.mark.parametrize("pair", FIRST_KINDS[:3], indirect=True)
async def test_policies_together_on_two_learners_learn_what_each_learns_alone(
    pair: Pair, tiny_model: ModelConfig
) -> None:
    """One of them adapts the head, and one ends before the others; passes and steps by themselves add up, too."""
    names = ("a", "b", "c")
    made_of = [arguments(tiny_model, lm_head=i == 1) | {"run": run, "seed": i} for i, run in enumerate(names)]
    alone = [TorchLearner(**options) for options in made_of]
    joint = JointUpdates(pair.host)
    together = [await joint.register(spec_of(options)) for options in made_of]
    try:
        for step in range(3):
            if step == 2:
                await together.pop().close()
            batches = [batch(10 * step + i, groups) for i, groups in zip(range(len(together)), (5, 1, 3), strict=False)]
            metrics = await asyncio.gather(*(one.update(b) for one, b in zip(together, batches, strict=True)))
            for learner, expected, got, policys in zip(together, alone, metrics, batches, strict=False):
                assert got == pytest.approx(await expected.update(policys), rel=1e-4, abs=1e-6)
                await assert_same_policy(learner, expected)
        step = batch(50)
        (output,) = await pair.host.forward_backward([PolicyUpdate("a", step)])
        (expected_output,) = alone[0].host.forward_backward([PolicyUpdate("a", step)])
        for got, wanted in zip(output.logprobs, expected_output.logprobs, strict=True):
            assert got.tolist() == pytest.approx(wanted.tolist(), abs=1e-4)
        adam = AdamConfig.of(made_of[0]["config"])
        assert await pair.host.optim_step("a", adam) == pytest.approx(alone[0].host.optim_step("a", adam), rel=1e-4)
        await assert_same_policy(together[0], alone[0])
    finally:
        for name in names:
            await pair.host.remove(name)


@pytest.mark.usefixtures("ray_cluster")
def test_two_learners_of_a_sharded_hybrid_mixture_make_the_update_of_one(tmp_path: Path) -> None:
    """Each reads its completions one a row, so they have unequal numbers of microbatches to go through together; and
    neither has the whole weight of an expert when it gets an adapter. Both replay a sampler's experts."""
    targets = (*save_hybrid("qwen3-next", tmp_path), *PROJECTIONS)
    model = ModelConfig(name=str(tmp_path), dtype="float32", max_length=64)
    options = arguments(model, targets=targets, router_replay=True)
    groups = [_with_experts(group) for group in made_groups(0, groups=3, size=4)]
    routed = build_batch(groups, [advantages(group.rewards) for group in groups], 40, routed=True)
    alone = TorchLearner(**options)

    host = start(model, shard=True)

    async def compare() -> None:
        async with policy_on(host, options) as two:
            mine, theirs = await two.update(routed), await alone.update(routed)
            assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-6)
            assert mine["update/router_disagreement"] > 0
            await assert_same_policy(two, alone)

    try:
        asyncio.run(compare())
    finally:
        asyncio.run(host.close())


def _with_experts(group: Group) -> Group:
    """Return it with the last two of four experts for all tokens of its completions, in both blocks."""

    def routed(completion: Completion) -> Completion:
        inputs = len(group.prompt) + len(completion.token_ids) - 1
        return replace(completion, routed_experts=RoutedExperts.of(np.tile(np.array([2, 3]), (inputs, 2, 1))))

    return replace(group, completions=[routed(completion) for completion in group.completions])


@pytest.mark.parametrize("pair", FIRST_KINDS[:1], indirect=True)
async def test_the_death_of_one_is_the_death_of_both_and_they_go_on_from_what_was_saved(
    pair: Pair, tiny_model: ModelConfig
) -> None:
    alone = TorchLearner(**arguments(tiny_model))
    async with policy_on(pair.host, arguments(tiny_model)) as two:
        await two.update(batch(0))
        await alone.update(batch(0))
        saved = await two.state()
        os.kill(await pair.host.pid(1), signal.SIGKILL)
        with pytest.raises(LearnerDied):
            async with asyncio.timeout(60):
                await two.update(batch(1))
        for late in (two.update(batch(1)), two.score([[5, 6, 7]]), two.state(), pair.host.pid()):
            with pytest.raises(LearnerDied, match="not been started again"):  # whoever asks next hears of it, too
                await late
        await two.restart()
        await two.load_state(saved)
        await two.update(batch(1))
        await alone.update(batch(1))
        await assert_same_policy(two, alone)


@pytest.mark.parametrize(
    ("nodes", "fits"),
    [
        ([{"GPU": 4.0}], True),
        ([{"GPU": 1.0}, {"GPU": 1.0}, {"GPU": 2.0}], True),
        ([{"GPU": 3.0}], False),
        ([{"GPU": 1.0}] * 4, False),
    ],
)
def test_each_learner_has_a_bundle_of_its_own(nodes: list[dict[str, float]], fits: bool) -> None:
    """Two learners of a GPU each, and a worker of two on one node."""
    asked = Request({"GPU": 1.0}, {"GPU": 2.0}, workers=1, strategy="PACK", learners=2)
    assert asked.bundles() == [{"GPU": 1.0}, {"GPU": 1.0}, {"GPU": 2.0}]
    assert asked.fits(nodes) is fits


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"num_learners": 2}, "num_learners above 1 needs runtime"),
        ({"shard": True}, "shard needs"),
    ],
)
def test_what_cannot_be_divided_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RunConfig.model_validate({"runtime": "local", "rollout": {"engine": "torch"}, "learner": settings})
