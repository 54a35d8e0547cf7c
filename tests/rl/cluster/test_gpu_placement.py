"""Every kind of run finds its places on clusters with GPUs. Ray counts the GPUs that it is told of, so that none need be
there: what computes in the actors is left out, or ends by saying that torch finds no GPU."""

import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from typer.testing import CliRunner

from rl.cli.app import app
from rl.cluster.components import open_components, open_shared_components
from rl.cluster.connect import disconnect
from rl.cluster.workers import open_engine
from rl.config import RunConfig
from rl.launch.session import open_alone
from rl.launch.sft_recipe import SFT
from rl.learner.policies.policy import PolicySpec
from rl.learner.policy_host import LearnerSpec
from rl.settings.toml import load_config
from rollout.types import EngineDied

EXAMPLES = Path(__file__).parents[3] / "examples"
TINY, SFT_TINY = EXAMPLES / "tiny.toml", EXAMPLES / "sft-tiny.toml"

Seats = list[tuple[str, list[int]]]
"""Of each actor: its node, and the GPUs that are its own there."""


class Seat:
    """What runs in an actor in place of an engine or a learner: it says where it sits."""

    async def start(self, *_: Any) -> None:
        """Nothing is loaded."""

    async def address(self, *_: Any) -> str:
        return "127.0.0.1:1"

    async def add(self, *_: Any) -> None:
        """Nothing is trained."""

    async def where(self) -> tuple[str, list[int]]:
        return ray.get_runtime_context().get_node_id(), [int(gpu) for gpu in ray.get_gpu_ids()]

    async def close(self) -> None:
        """Nothing to release."""


@pytest.fixture
def seats(monkeypatch: pytest.MonkeyPatch) -> None:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # an actor cannot import a test
    for name in ("rollout.ray.engine.EngineActor", "rl.cluster.ray_host.LearnerActor"):
        monkeypatch.setattr(name, Seat)
    for unread in (LearnerSpec, PolicySpec):  # or each seat would load torch, to read what it leaves out
        monkeypatch.setattr(unread, "__reduce__", lambda _: (str, ()))


class GpuCluster:
    """A head that counts nothing, and other nodes as they are asked for."""

    def __init__(self) -> None:
        head = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=self._node(**head))
        self._nodes: list[tuple[int, Any]] = []
        self.address = self._cluster.address

    def become(self, *gpus: int) -> None:
        """Nodes with so many GPUs each, and no others."""
        missing = list(gpus)
        for count, node in list(self._nodes):
            if count in missing:
                missing.remove(count)
            else:
                self._cluster.remove_node(node)
                self._nodes.remove((count, node))
        for count in missing:
            self._nodes.append((count, self._cluster.add_node(**self._node(num_cpus=4, num_gpus=count))))

    def lose(self, node_id: str) -> None:
        """Without that node."""
        (lost,) = [each for each in self._nodes if each[1].node_id == node_id]
        self._cluster.remove_node(lost[1])
        self._nodes.remove(lost)

    def end(self) -> None:
        self._cluster.shutdown()

    def _node(self, **more: Any) -> dict[str, Any]:
        return {"object_store_memory": 100 * 2**20, **more}


@pytest.fixture(scope="module")
def gpu_cluster() -> Iterator[GpuCluster]:
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as directory:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_TMPDIR", directory)  # also for the file that names the machine's newest cluster
            cluster = GpuCluster()
        try:
            yield cluster
        finally:
            cluster.end()


@pytest.fixture(autouse=True)
def joined(gpu_cluster: GpuCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs join the cluster through `RAY_ADDRESS`."""
    monkeypatch.setenv("RAY_ADDRESS", gpu_cluster.address)
    yield
    disconnect()


async def where(*handles: Any) -> Seats:
    return list(await asyncio.gather(*(handle.where.remote() for handle in handles)))


async def trained(config: RunConfig) -> Seats:
    async with open_components(config, "run", lambda _: []) as parts:
        learner: Any = parts.learner
        workers: Sequence[Any] = parts.engine.replicas()
        return await where(*learner._host._actors, *(worker._handle for worker in workers))


async def evaluated(config: RunConfig) -> Seats:
    async with open_engine(config, config.lora) as engine:
        workers: Sequence[Any] = engine.replicas()
        return await where(*(worker._handle for worker in workers))


async def swept(config: RunConfig) -> Seats:
    async with open_shared_components([config, config], 2) as shared:
        host: Any = shared.joint_updates._host  # pyright: ignore[reportPrivateUsage]
        workers: Sequence[Any] = shared.engine.replicas()
        return await where(*host._actors, *(worker._handle for worker in workers))


async def fine_tuned(config: RunConfig) -> Seats:
    placed = {"learner": config.learner, "placement": config.placement}
    prepared = SFT.prepare(load_config(SFT_TINY, ["runtime=ray"]).model_copy(update=placed), EXAMPLES)
    async with AsyncExitStack() as stack:
        learner, _ = await stack.enter_async_context(open_alone(SFT, prepared, "run"))
        actors: Any = learner
        return await where(*actors._host._actors)


KINDS: dict[str, Callable[[RunConfig], Awaitable[Seats]]] = {
    "train": trained, "eval": evaluated, "sweep": swept, "sft": fine_tuned,
}  # fmt: skip
LAYOUTS: list[tuple[tuple[int, ...], dict[str, tuple[str, list[int]]]]] = [
    # nodes' GPUs; then what is run there, with its settings and the GPUs that each of its actors has in the end
    ((1,), {
        "train": ("rollout.num_workers=2", [1, 1, 1]), "eval": ("", [1]), "sweep": ("", [1, 1]), "sft": ("", [1]),
    }),
    ((1, 0), {"train": ("", [1, 1]), "eval": ("", [1]), "sweep": ("", [1, 1]), "sft": ("", [1])}),
    ((1, 1), {
        "train": ("", [1, 1]), "eval": ("rollout.num_workers=2", [1, 1]), "sweep": ("", [1, 1]),
        "sft": ("learner.num_learners=2", [1, 1]),
    }),
    ((8,), {
        "train": ("learner.num_learners=2 rollout.num_workers=2 rollout.tensor_parallel_size=3", [1, 1, 3, 3]),
        "eval": ("rollout.tensor_parallel_size=8", [8]), "sweep": ("rollout.tensor_parallel_size=7", [1, 7]),
        "sft": ("learner.device=cpu", [0]),
    }),
    ((4, 4), {
        "train": ("learner.num_learners=2 rollout.num_workers=2 rollout.tensor_parallel_size=3", [1, 1, 3, 3]),
        "eval": ("rollout.num_workers=2 rollout.tensor_parallel_size=4", [4, 4]),
        "sweep": ("rollout.num_workers=2 rollout.tensor_parallel_size=3", [1, 1, 3, 3]), "sft": ("learner.num_learners=1", [1]),
    }),
    ((2,), {
        "train": ("learner.device=cpu rollout.tensor_parallel_size=2", [0, 2]), "eval": ("rollout.num_workers=1", [1]),
        "sweep": ("", [1, 1]), "sft": ("learner.num_learners=2", [1, 1]),
    }),
]  # fmt: skip


@pytest.mark.parametrize(("gpus", "runs"), LAYOUTS, ids=[str(gpus) for gpus, _ in LAYOUTS])
@pytest.mark.usefixtures("seats")
async def test_every_kind_of_run_has_its_gpus(
    gpu_cluster: GpuCluster, gpus: tuple[int, ...], runs: dict[str, tuple[str, list[int]]]
) -> None:
    gpu_cluster.become(*gpus)
    for kind, (settings, expected) in runs.items():
        found = await KINDS[kind](load_config(TINY, ["runtime=ray", *settings.split()]))
        assert [len(mine) for _, mine in found] == expected, kind
        taken = Counter((node, gpu) for node, mine in found for gpu in mine)
        if sum(gpus) == 1:
            assert len(taken) == 1, f"{kind}: all share the one that there is"
        else:
            assert set(taken.values()) <= {1}, f"{kind}: nobody shares a GPU with another"


@pytest.mark.usefixtures("seats")
async def test_by_default_every_gpu_of_the_cluster_is_used(gpu_cluster: GpuCluster) -> None:
    gpu_cluster.become(2, 2)
    used = {"train": 4, "sweep": 4, "sft": 4, "eval": 1}  # thirty answers are one batch
    for kind, count in used.items():
        found = await KINDS[kind](load_config(TINY, ["runtime=ray"]))
        assert [len(mine) for _, mine in found] == [1] * count, kind
        assert len({(node, gpu) for node, mine in found for gpu in mine}) == count, kind


@pytest.mark.usefixtures("seats")
async def test_what_more_a_place_must_have_is_reserved_and_taken(gpu_cluster: GpuCluster) -> None:
    """CPUs and memory among it, which Ray has other names for when it starts an actor."""
    gpu_cluster.become(2)
    more = '{ CPU = 2, memory = 1e6, "accelerator_type:H100" = 0.001 }'
    settings = ["runtime=ray", f"placement.learner_resources={more}", "placement.worker_resources={ CPU = 1 }"]
    with pytest.raises(
        ValueError, match=r"asks for 1 GPU \+ 2 CPU .*H100 for the learner and 1 GPU \+ 1 CPU for 1 roll"
    ):
        await trained(load_config(TINY, settings))
    settings[1] = "placement.learner_resources={ CPU = 2, memory = 1e6 }"
    assert [len(mine) for _, mine in await trained(load_config(TINY, settings))] == [1, 1]


@pytest.mark.usefixtures("seats")
async def test_a_run_that_loses_a_node_goes_on_with_the_workers_that_are_left(
    gpu_cluster: GpuCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no GPU is to spare it says what it waits for, has it when a node joins, and needs less when it is resumed."""
    gpu_cluster.become(2, 2)
    config = load_config(TINY, ["runtime=ray", "learner.num_learners=1"])
    async with open_components(config, "run", lambda _: []) as parts:
        pool: Any = parts.engine
        learner: Any = parts.learner
        (home, _), *seats = await where(*learner._host._actors, *(slot.engine._handle for slot in pool._slots))
        lost = [slot for slot, (node, _) in zip(pool._slots, seats, strict=True) if node != home]
        assert (len(seats), len(lost)) == (3, 2)
        gpu_cluster.lose(next(node for node, _ in seats if node != home))
        for slot in lost:
            pool._mark_dead(slot, slot.engine, EngineDied("its node is gone"))
        await until(lambda: caplog.text.count("waits for another place") == 2)
        assert (
            f"worker {lost[0].index} waits for another place: its node is gone, and no other has 1 GPU" in caplog.text
        )
        (left,) = pool.replicas()
        assert [node for node, _ in await where(left._handle)] == [home], "the other one serves"
        gpu_cluster.become(2, 2)
        await until(lambda: len(pool.replicas()) == 3)
    gpu_cluster.become(2)
    assert len(await trained(config)) == 2


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.1)


def test_commands_get_as_far_as_the_gpu_that_is_not_there(gpu_cluster: GpuCluster, tmp_path: Path) -> None:
    """With the real learners and engines: it is torch, on the actor's node, that has the last word."""
    gpu_cluster.become(2)
    (tmp_path / "sweep.toml").write_text(f'base = "{TINY}"\n[axes]\n"lora.rank" = [1, 8]\n')
    ray_settings = ("--set", "runtime=ray", "--set", "reward.workers=1")
    for arguments in (
        ("train", TINY, "--out", tmp_path / "train", *ray_settings),
        ("eval", TINY, *ray_settings),
        ("sweep", tmp_path / "sweep.toml", "--out", tmp_path / "sweep", *ray_settings),
        ("sft", SFT_TINY, "--out", tmp_path / "sft", *ray_settings),
    ):
        ended = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert ended.exit_code == 2, ended.output
        said = " ".join(ended.output.split())
        assert "rankone: Ray counts a GPU on" in said, said
        assert "finds none there: install rankone's `gpu` extra" in said
