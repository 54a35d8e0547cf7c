"""The server's parts by themselves, where a fault needs a moment that clients cannot choose."""

import asyncio
import shutil
import sys
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import torch

from lora.config import LoraConfig, ModelConfig
from lora.peft.description import Description
from lora.peft.files import pack
from lora.types import Adapter
from rl.algorithm.batch.datum import Datum
from rl.algorithm.objective.summed_loss import SummedLoss
from rl.config import LearnerConfig
from rl.learner.passes.policy_loss import ForwardBackward
from rl.learner.policies.policy import AdamConfig, PolicySpec
from rl.learner.policy_host import LearnerSpec, LocalHost, PolicyUpdate
from rl.serve.config import LimitsConfig, ServeConfig
from rl.serve.errors import ServerFault
from rl.serve.http.routes.start import flags_of
from rl.serve.operations.futures import Answer, Failure, Futures
from rl.serve.sampling.adapters import AdapterCache, AdapterSource
from rl.serve.service import background
from rl.serve.storage.checkpoints import Checkpoints, SaveOptions
from rl.serve.storage.database import ClientSession, TrainingRun, open_database
from rl.serve.storage.registry import Registry, now
from rl.serve.storage.weights import Files, LocalStore
from rl.serve.training.policies import ServedPolicy, Shelf
from rl.serve.training.trainer import Trainer, TrainerLimits
from rl.types import LearnerDied
from rl.wire.tinker_path import TinkerPath

SPEC = LearnerSpec(ModelConfig(name="tiny-random", dtype="float32", max_length=64), mix_policies=False)
LOSS = SummedLoss.of("cross_entropy", {})
ADAM = AdamConfig(lr=0.05)


class Host(LocalHost):
    """A learner that counts its policies, and dies when it is told to."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.names: set[str] = set()
        self.most = 0
        self.dies = False
        self.failing_starts = 0

    async def add(self, spec: PolicySpec) -> None:
        await super().add(spec)
        self.names.add(spec.run)
        self.most = max(self.most, len(self.names))

    async def remove(self, run: str) -> None:
        await super().remove(run)
        self.names.discard(run)

    async def forward(self, updates: Sequence[PolicyUpdate]) -> list[ForwardBackward]:
        await asyncio.sleep(0)
        if self.dies:
            self.dies = False
            raise LearnerDied("the learner died")
        return await super().forward(updates)

    async def restart(self) -> None:
        self.names.clear()
        if self.failing_starts:
            self.failing_starts -= 1
            raise RuntimeError("out of memory")
        await super().restart()


@asynccontextmanager
async def opened(shelf: Path, resident: int = 2) -> AsyncGenerator[tuple[Trainer, Host]]:
    host = Host()
    trainer = Trainer(host, Shelf(shelf), TrainerLimits(resident_policies=resident))
    async with background(trainer.run()):
        yield trainer, host


async def create(trainer: Trainer, name: str) -> ServedPolicy:
    spec = PolicySpec(name, LoraConfig(rank=2, alpha=32.0, allow_large_rank=True), LearnerConfig(), 1.0, seed=1)
    return await trainer.create(spec)


async def passed(trainer: Trainer, policy: ServedPolicy, *, backward: bool = False) -> list[float]:
    tokens = torch.tensor([5, 6, 7, 8])
    datum = Datum(tokens, tokens + 1, torch.ones(4), torch.zeros(4))
    outcome = await trainer.forward_backward(policy, [datum], LOSS, backward=backward)
    return outcome.logprobs[0].tolist()


async def trained(trainer: Trainer, name: str) -> ServedPolicy:
    policy = await create(trainer, name)
    await passed(trainer, policy, backward=True)
    await trainer.optim_step(policy, ADAM)
    return policy


async def test_what_waits_for_a_model_that_ended_fails_and_finds_no_fresh_one(tmp_path: Path) -> None:
    async with opened(tmp_path / "shelf") as (trainer, host):
        away, here = await trained(trainer, "a"), [await trained(trainer, name) for name in "bc"]
        assert not away.on_learner
        for policy in (away, here[-1]):
            await trainer.remove(policy)
            for work in (passed(trainer, policy), trainer.publish(policy), trainer.state(policy)):
                with pytest.raises(ServerFault, match="ended"):
                    await work
            assert policy.name not in host.names


async def test_no_more_policies_are_on_the_learner_than_allowed_though_all_wait(tmp_path: Path) -> None:
    async with opened(tmp_path / "shelf") as (trainer, host):
        policies = [await trained(trainer, name) for name in "abcde"]
        before = [await passed(trainer, policy) for policy in policies]
        together = await asyncio.gather(*(passed(trainer, policy) for policy in policies * 2))
        assert together == before * 2
        assert host.most == 2


async def test_a_policy_with_gradients_keeps_no_other_on_the_learner(tmp_path: Path) -> None:
    async with opened(tmp_path / "shelf", resident=3) as (trainer, host):
        busy = await create(trainer, "busy")
        await passed(trainer, busy, backward=True)
        for name in "abcd":
            await trained(trainer, name)
        assert host.most == 3


async def test_a_policy_that_finds_no_room_on_the_disk_stays_what_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path / "shelf") as (trainer, _):
        first = await trained(trainer, "a")
        before = await passed(trainer, first)
        shutil.rmtree(tmp_path / "shelf")
        for name in "bc":
            await trained(trainer, name)
        assert not first.on_learner
        assert await passed(trainer, first) == before


async def test_a_learner_that_cannot_be_started_at_once_is_tried_again(tmp_path: Path) -> None:
    async with opened(tmp_path / "shelf") as (trainer, host):
        policy = await trained(trainer, "a")
        before = await passed(trainer, policy)
        host.dies, host.failing_starts = True, 1
        with pytest.raises(ServerFault, match="started again"):
            await passed(trainer, policy)
        async with asyncio.timeout(10):
            assert await passed(trainer, policy) == before


async def test_only_work_that_leaves_nothing_behind_is_stopped_by_its_client() -> None:
    futures, go = Futures(), asyncio.Event()

    async def work() -> Answer:
        await go.wait()
        return Answer(b"done")

    sample = futures.begin("ann", work(), stoppable=True)
    early = futures.begin("ann", work(), stoppable=True)
    gradient = futures.begin("ann", work())
    futures.cancel("ann", early)  # before it began
    await asyncio.sleep(0)
    for request_id in (sample, gradient):
        futures.cancel("ann", request_id)
    go.set()
    assert isinstance(await futures.wait("ann", early, 5), Failure)
    assert isinstance(await futures.wait("ann", sample, 5), Failure)
    assert await futures.wait("ann", gradient, 5) == Answer(b"done")
    assert len(futures) == 0


async def test_a_users_large_results_cost_nobody_else_theirs() -> None:
    futures = Futures(keep_bytes=20_000)

    async def result(size: int) -> Answer:
        return Answer(b"x" * size)

    small = futures.begin("ann", result(10))
    await asyncio.sleep(0.01)
    large = [futures.begin("bob", result(4000)) for _ in range(20)]
    await asyncio.sleep(0.05)
    assert await futures.wait("ann", small, 5) == Answer(b"x" * 10)
    assert isinstance(await futures.wait("bob", large[0], 5), Failure)
    assert await futures.wait("bob", large[-1], 5) == Answer(b"x" * 4000)


async def test_results_are_let_go_in_the_order_in_which_they_were_done() -> None:
    futures, go = Futures(keep_bytes=10_000), asyncio.Event()

    async def late() -> Answer:
        await go.wait()
        return Answer(b"late")

    async def large() -> Answer:
        return Answer(b"x" * 4000)

    first = futures.begin("ann", late())
    others = [futures.begin("ann", large(), key=number) for number in range(20)]
    await asyncio.sleep(0.05)
    go.set()
    assert await futures.wait("ann", first, 5) == Answer(b"late")
    assert isinstance(await futures.wait("ann", others[0], 5), Failure)
    assert isinstance(await futures.wait("ann", others[-1], 5), Answer)
    assert futures.known(0) is None
    assert futures.known(19) == others[-1]


def test_many_threads_read_adapters_at_once() -> None:
    cache = AdapterCache(most_bytes=20_000)

    def read(number: int) -> None:
        assert cache.get(AdapterSource(f"run-{number % 40}", 0, lambda: bytes(1000))).version == 0

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(read, range(20_000)))
    finally:
        sys.setswitchinterval(interval)


class KilledStore(LocalStore):
    """A directory whose writer is killed while it writes, or before it deletes."""

    killed = False

    def save(self, location: str, files: Files) -> None:
        if self.killed:
            (self._root / location).parent.mkdir(parents=True, exist_ok=True)
            (self._root / location).with_name(f".{Path(location).name[:100]}-scratch").mkdir()
            raise KeyboardInterrupt
        super().save(location, files)

    def delete(self, location: str) -> None:
        if self.killed:
            raise KeyboardInterrupt
        super().delete(location)


def test_files_of_saves_and_deletions_that_were_killed_are_deleted_later(tmp_path: Path) -> None:
    registry, store = Registry(open_database(f"sqlite:///{tmp_path / 'db'}")), KilledStore(tmp_path / "weights")
    registry.add(
        ClientSession(
            id="s", user="ann", created=now(), tags=[], user_metadata=None, display_name=None, end_reason=None
        )
    )
    shape = {"rank": 1, "train_unembed": False, "train_mlp": True, "train_attn": True}
    times = {"created": now(), "last_request": now()}
    registry.add(TrainingRun(id="r", user="ann", session_id="s", base_model="m", user_metadata=None, **shape, **times))
    checkpoints, adapter = (
        Checkpoints(registry, store),
        Adapter("r", 1, pack({}, Description("m", 1, 32.0, ("q_proj",)))),
    )

    def save(name: str) -> None:
        checkpoints.save("ann", TinkerPath("r", "weights", name), adapter, b"state", SaveOptions())

    for name in ("kept", "deleted", "n" * 255):
        save(name)
    store.killed = True
    with pytest.raises(KeyboardInterrupt):
        save("halfway")
    with pytest.raises(KeyboardInterrupt):
        checkpoints.delete("ann", TinkerPath("r", "weights", "deleted"))
    store.killed = False
    assert checkpoints.delete_leftovers() == 0  # they may be another server's, which is at it
    assert checkpoints.delete_leftovers(0.0) == 2
    left = {path.name.partition("-")[0] for path in (tmp_path / "weights/r/weights").iterdir()}
    assert left == {"kept", "n" * 100}
    assert checkpoints.state(checkpoints.find("ann", TinkerPath("r", "weights", "kept"))) == b"state"


def test_clients_are_told_to_send_what_fits() -> None:
    assert flags_of(ServeConfig()) == {"parallel_fwdbwd_chunks": False}
    small = LimitsConfig(body_bytes=2**20)
    assert flags_of(ServeConfig(limits=small))["fwdbwd_max_chunk_bytes_count"] == 2**18
    own = {"fwdbwd_max_chunk_bytes_count": 1000, "parallel_fwdbwd_chunks": True}
    assert flags_of(ServeConfig(limits=small, client_flags=own)) == own
