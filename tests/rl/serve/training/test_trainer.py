"""Clients' requests on one learner: none waits for the longest, and policies that are away come back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch

from lora.config import LoraConfig, ModelConfig
from rl.algorithm.batch.datum import Datum
from rl.algorithm.objective.summed_loss import SummedLoss
from rl.config import LearnerConfig
from rl.learner.policies.policy import AdamConfig, PolicySpec
from rl.learner.policy_host import LearnerSpec
from rl.learner.thread_host import ThreadHost
from rl.serve.errors import ServerFault
from rl.serve.training.policies import ServedPolicy, Shelf
from rl.serve.training.trainer import Trainer, TrainerLimits
from rl.types import LearnerDied

LOSS = SummedLoss.of("cross_entropy", {})
ADAM = AdamConfig(lr=1e-2)


@pytest.fixture
async def trainer(tmp_path: Path) -> AsyncIterator[Trainer]:
    model = ModelConfig(name="tiny-random", dtype="float32", max_length=64)
    host = ThreadHost(LearnerSpec(model, learner=LearnerConfig(), lora=LoraConfig(rank=8), mix_policies=False))
    limits = TrainerLimits(part_tokens=16, resident_policies=2)
    trainer = Trainer(host, Shelf(tmp_path / "shelf"), limits)
    task = asyncio.create_task(trainer.run())
    yield trainer
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await host.close()


def spec(name: str, seed: int = 0) -> PolicySpec:
    return PolicySpec(name, LoraConfig(rank=2), LearnerConfig(), 1.0, seed)


def datum(seed: int) -> Datum:
    ids = torch.randint(3, 40, (8,), generator=torch.Generator().manual_seed(seed))
    return Datum(ids[:-1], ids[1:], torch.ones(7), torch.zeros(7))


async def step(trainer: Trainer, policy: ServedPolicy, count: int = 2) -> None:
    await trainer.forward_backward(policy, [datum(i) for i in range(count)], LOSS, backward=True)
    await trainer.optim_step(policy, ADAM)


async def logprobs(trainer: Trainer, policy: ServedPolicy) -> torch.Tensor:
    return torch.cat((await trainer.forward_backward(policy, [datum(99)], LOSS, backward=False)).logprobs)


async def test_a_short_request_does_not_wait_for_a_long_one(trainer: Trainer) -> None:
    long, short = await trainer.create(spec("long")), await trainer.create(spec("short"))
    slow = asyncio.ensure_future(trainer.forward_backward(long, [datum(i) for i in range(200)], LOSS, backward=True))
    await asyncio.sleep(0.05)
    await step(trainer, short)
    assert not slow.done()
    assert len((await slow).logprobs) == 200


async def test_policies_that_were_put_away_learn_as_if_they_had_stayed(trainer: Trainer) -> None:
    """Two have room; five learn in turn, and each is away while others learn."""
    policies = [await trainer.create(spec(f"p{i}", seed=i)) for i in range(5)]
    for _ in range(3):
        for policy in policies:
            await step(trainer, policy)
    assert sum(policy.on_learner for policy in policies) <= 2
    alone = await trainer.create(spec("alone", seed=3))
    for _ in range(3):
        await step(trainer, alone)
    assert torch.equal(await logprobs(trainer, alone), await logprobs(trainer, policies[3]))


async def test_gradients_stay_while_others_come_and_go(trainer: Trainer) -> None:
    keeper, expected = await trainer.create(spec("keeper", 1)), await trainer.create(spec("expected", 1))
    await step(trainer, expected)
    await trainer.forward_backward(keeper, [datum(i) for i in range(2)], LOSS, backward=True)
    for i in range(4):
        await step(trainer, await trainer.create(spec(f"other{i}")))
    await trainer.optim_step(keeper, ADAM)
    assert torch.equal(await logprobs(trainer, keeper), await logprobs(trainer, expected))


async def test_more_long_requests_than_have_room_in_a_pass_all_end(trainer: Trainer) -> None:
    policies = [await trainer.create(spec(f"p{i}")) for i in range(6)]
    data = [datum(i) for i in range(20)]
    work = [trainer.forward_backward(policy, data, LOSS, backward=True) for policy in policies]
    async with asyncio.timeout(60):
        passed = await asyncio.gather(*work)
    assert all(len(each.logprobs) == 20 for each in passed)
    assert {round(each.metrics["loss:sum"], 3) for each in passed} == {round(passed[0].metrics["loss:sum"], 3)}


async def test_a_request_that_fails_takes_its_earlier_parts_back(trainer: Trainer) -> None:
    policy, expected = await trainer.create(spec("p")), await trainer.create(spec("q"))
    await trainer.forward_backward(policy, [datum(0)], LOSS, backward=True)
    await trainer.forward_backward(expected, [datum(0)], LOSS, backward=True)
    wrong = Datum(torch.tensor([3, 10_000]), torch.tensor([3, 3]), torch.ones(2), torch.zeros(2))  # unchecked
    with pytest.raises(Exception, match="index"):
        await trainer.forward_backward(policy, [*(datum(i) for i in range(6)), wrong], LOSS, backward=True)
    for each in (policy, expected):
        await trainer.optim_step(each, ADAM)
    assert torch.equal(await logprobs(trainer, policy), await logprobs(trainer, expected))


async def test_a_step_is_not_taken_whose_pass_died_before_it_began(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client sends both at once; without gradients, its step would still follow those before."""
    policy = await trainer.create(spec("p"))
    await step(trainer, policy)
    for i in range(2):  # it is put away
        await step(trainer, await trainer.create(spec(f"other{i}")))
    assert not policy.on_learner
    expected = await logprobs(trainer, policy)
    for i in range(2):
        await step(trainer, await trainer.create(spec(f"another{i}")))
    host = trainer._host  # pyright: ignore[reportPrivateUsage]
    add = host.add

    async def dies(_: PolicySpec) -> None:
        monkeypatch.setattr(host, "add", add)
        raise LearnerDied("the learner died")

    async def restart() -> None:
        """The others' policies are still there: it only said that it was dead."""

    monkeypatch.setattr(host, "add", dies)
    monkeypatch.setattr(host, "restart", restart)
    sent = trainer.forward_backward(policy, [datum(0)], LOSS, backward=True)
    with pytest.raises(ServerFault, match="not carried out"):
        await sent
    with pytest.raises(ServerFault, match="gradients"):
        await trainer.optim_step(policy, ADAM)
    assert torch.equal(await logprobs(trainer, policy), expected)
