"""Updates that are gathered: who is waited for, and what a death of the host does to each."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from helpers.fakes import made_groups
from helpers.torch_learner import TorchLearner

from lora.config import LoraConfig, ModelConfig
from lora.types import Adapter
from rl.algorithm.advantage.estimators import advantages
from rl.algorithm.batch.packing import build_batch
from rl.config import LearnerConfig
from rl.learner.joint_updates import JointUpdates, PolicyLearner
from rl.learner.policies.policy import PolicySpec
from rl.learner.policy_host import LearnerSpec, LocalHost, Metrics, PolicyUpdate
from rl.types import LearnerDied, TrainBatch


def spec(run: str, rank: int = 1, seed: int = 0) -> PolicySpec:
    return PolicySpec(run, LoraConfig(rank=rank), LearnerConfig(lr=1e-2), 1.0, seed)


def batch(seed: int) -> TrainBatch:
    groups = made_groups(seed)
    return build_batch(groups, [advantages(group.rewards) for group in groups], 64)


class WatchedHost(LocalHost):
    """Counts rounds, and dies when it is told to."""

    def __init__(self, spec: LearnerSpec) -> None:
        super().__init__(spec)
        self.rounds: list[list[str]] = []
        self.dead = False
        self.starts = 0

    async def update(self, updates: Sequence[PolicyUpdate]) -> list[Metrics]:
        await self._knock()
        self.rounds.append([update.run for update in updates])
        return await super().update(updates)

    async def add(self, spec: PolicySpec) -> None:
        await self._knock()
        await super().add(spec)

    async def publish(self, run: str) -> Adapter:
        await self._knock()
        return await super().publish(run)

    async def _knock(self) -> None:
        if self.dead:
            raise LearnerDied("it was killed")
        await asyncio.sleep(0)

    async def restart(self) -> None:
        await super().restart()
        self.dead = False
        self.starts += 1


@pytest.fixture
def host(tiny_model: ModelConfig) -> WatchedHost:
    return WatchedHost(LearnerSpec(tiny_model, "cpu"))


async def joined(rounds: JointUpdates, *runs: str) -> list[PolicyLearner]:
    return [await rounds.register(spec(run, rank, rank)) for rank, run in enumerate(runs, start=1)]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_round_runs_when_all_have_brought_their_batch(host: WatchedHost) -> None:
    one, other = await joined(JointUpdates(host), "one", "other")
    first = asyncio.ensure_future(one.update(batch(0)))
    await settle()
    assert not first.done()
    metrics = await other.update(batch(1))
    assert host.rounds == [["one", "other"]]
    assert (await first)["update/loss"] != metrics["update/loss"]


async def test_who_ends_fails_or_is_cancelled_is_waited_for_no_longer(host: WatchedHost) -> None:
    one, other, third = await joined(JointUpdates(host), "one", "other", "third")
    waiting = asyncio.ensure_future(one.update(batch(0)))
    cancelled = asyncio.ensure_future(third.update(batch(2)))
    await settle()
    cancelled.cancel()
    await other.close()
    await settle()
    assert not waiting.done(), "the cancelled update is not of the round, and its policy is still awaited"
    await third.close()
    await waiting
    assert host.rounds == [["one"]]
    fourth = await JointUpdates.register(one._joint_updates, spec("fourth"))  # pyright: ignore[reportPrivateUsage]
    await asyncio.gather(one.update(batch(0)), fourth.update(batch(1)))
    assert host.rounds[-1] == ["one", "fourth"]


async def test_after_a_death_each_policy_goes_back_to_its_own_state_and_the_host_starts_once(host: WatchedHost) -> None:
    rounds = JointUpdates(host)
    learners = await joined(rounds, "one", "other", "third")
    await asyncio.gather(*(learner.update(batch(i)) for i, learner in enumerate(learners)))
    states = [await learner.state() for learner in learners]
    waiting = asyncio.ensure_future(learners[0].update(batch(5)))
    await settle()
    host.dead = True
    with pytest.raises(LearnerDied):
        await learners[1].publish()
    await learners[1].restart()
    with pytest.raises(LearnerDied):
        await waiting
    with pytest.raises(LearnerDied, match="begun anew"):  # it had not noticed, and must not learn from a fresh start
        await learners[2].update(batch(6))
    await asyncio.gather(learners[0].restart(), learners[2].restart())
    assert host.starts == 1
    for learner, state in zip(learners, states, strict=True):
        assert (await learner.publish()).version == 0
        await learner.load_state(state)
        assert await learner.state() == state
    await asyncio.gather(*(learner.update(batch(i)) for i, learner in enumerate(learners)))
    assert len(host.rounds) == 2


async def test_a_failed_update_reaches_all_of_the_round(host: WatchedHost) -> None:
    learners = await joined(JointUpdates(host), "one", "other")
    host.dead = True
    ended: Sequence[Any] = await asyncio.gather(*(one.update(batch(0)) for one in learners), return_exceptions=True)
    assert [type(error) for error in ended] == [LearnerDied, LearnerDied]


async def test_a_policy_that_joins_a_dead_host_brings_it_back(host: WatchedHost) -> None:
    rounds = JointUpdates(host)
    (one,) = await joined(rounds, "one")
    host.dead = True
    other = await rounds.register(spec("other", seed=3))
    assert (await other.publish()).run == "other"
    with pytest.raises(LearnerDied):
        await one.publish()


async def test_a_policys_learner_says_what_a_learner_of_its_own_would(
    host: WatchedHost, tiny_model: ModelConfig
) -> None:
    mine = await JointUpdates(host).register(spec("one", 2, 7))
    alone = TorchLearner("one", tiny_model, LoraConfig(rank=2), LearnerConfig(lr=1e-2), temperature=1.0, seed=7)
    for seed in range(2):
        assert await mine.update(batch(seed)) == await alone.update(batch(seed))
    assert await mine.publish() == await alone.publish()
    assert await mine.state() == await alone.state()
    assert await mine.facts() == await alone.facts()
    assert await mine.score([[5, 6, 7]], under="base") == await alone.score([[5, 6, 7]], under="base")
