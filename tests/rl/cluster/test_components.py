"""Several runs on shared actors: a learner that is killed takes nothing from any of them."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from lora.peft.files import read_peft, unpack
from rl.cluster.components import open_both, open_shared_components
from rl.cluster.ray_host import RayHost
from rl.launch.recipe import Prepared
from rl.launch.restarts import loop_with_restarts
from rl.launch.train_recipe import TRAIN
from rl.learner.policy_host import LearnerSpec
from rl.run.directory import RunDirectory
from rl.run.sinks import Ended, Sink, Sinks
from rl.settings.toml import load_config
from rl.types import Group
from rollout.ray.placement import ActorPlacement

EXAMPLE = Path(__file__).parents[3] / "examples" / "tiny.toml"
EAGER = "def digits(problem, completion):\n    return sum(map(str.isdigit, completion)) / max(1, len(completion))\n"


class Reaper(Sink):
    """Kills a process once, when a step is done."""

    def __init__(self, step: int, pid: int) -> None:
        self._step = step
        self._pid = pid

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        if step == self._step and self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._pid = 0

    def on_eval(self, *_: object) -> None:
        """Goes on."""

    def close(self, ended: Ended) -> None:
        """Nothing to release."""


def weights(out: Path) -> dict[str, torch.Tensor]:
    return unpack(read_peft(out / "adapters" / "last").payload)[0]


@pytest.mark.parametrize("in_turn", [False, True])
async def test_on_a_shared_gpu_the_learner_is_there_before_an_engine_looks_for_memory(in_turn: bool) -> None:
    events = list[str]()

    @asynccontextmanager
    async def opened(name: str) -> AsyncGenerator[Any]:
        events.append(f"{name} begins")
        await asyncio.sleep(0)
        events.append(f"{name} is there")
        yield name

    async with AsyncExitStack() as stack:
        both: Any = await open_both(stack, opened("learner"), opened("engine"), in_turn=in_turn)
    assert both == ("learner", "engine")
    learner, engine = [[f"{name} begins", f"{name} is there"] for name in both]
    assert events == ([*learner, *engine] if in_turn else [learner[0], engine[0], learner[1], engine[1]])


async def run_both(prepared: list[Prepared], home: Path, kill_after: int | None) -> list[list[int]]:
    """Two runs at once; the steps that were written down of each."""
    home.mkdir()
    async with open_shared_components([one.config for one in prepared], 2) as shared:
        host = shared.joint_updates._host  # pyright: ignore[reportPrivateUsage]
        pid = await host.pid(host._spec.learner.num_learners - 1) if isinstance(host, RayHost) else 0
        assert pid or kill_after is None

        async def one_run(index: int, one: Prepared) -> list[int]:
            directory = RunDirectory.create(home / f"{index}", one.config)
            sinks = Sinks([Reaper(kill_after, pid)] if index == 0 and kill_after is not None else [])
            async with shared.open(one.config, f"run{index}", one.encode) as parts:
                await loop_with_restarts(TRAIN, one, parts, directory, sinks, resume=False)
            return [row["step"] for row in directory.metrics()]

        return await asyncio.gather(*(one_run(index, one) for index, one in enumerate(prepared)))


def two_runs(home: Path, runtime: str, *more: str) -> list[Prepared]:
    """That differ in their rank."""
    settings = [
        "problems_per_step=4", "sampling.group_size=4", "evaluate.every=4", "evaluate.num_problems=4", "num_steps=5",
        "reward.workers=1", f"runtime={runtime}", f"reward.function={home / 'eager.py'}:digits", *more,
    ]  # fmt: skip
    return [TRAIN.prepare(load_config(EXAMPLE, [*settings, f"lora.rank={rank}"]), EXAMPLE.parent) for rank in (1, 8)]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("learners", [(1, "false"), (2, "false"), (2, "true")], ids=["one", "two", "two shards"])
async def test_runs_that_share_a_learner_outlive_it(tmp_path: Path, learners: tuple[int, str]) -> None:
    """They end as the same two in one process, where nothing was killed; learners that share the rows die together."""
    count, shard = learners
    several = (f"learner.num_learners={count}", f"learner.shard={shard}")
    (tmp_path / "eager.py").write_text(EAGER)
    calm = await run_both(two_runs(tmp_path, "local"), tmp_path / "calm", None)
    killed = await run_both(two_runs(tmp_path, "ray", *several), tmp_path / "killed", 2)
    assert calm == killed == [list(range(6))] * 2
    for index in range(2):
        one, other = weights(tmp_path / "calm" / f"{index}"), weights(tmp_path / "killed" / f"{index}")
        for name in one:
            assert (one[name] - other[name]).norm() <= 1e-2 * one[name].norm(), name


async def test_an_interruption_that_comes_with_an_answer_is_not_lost() -> None:
    """Lost, the run would go on until it is killed: it is asked to stop only once."""
    host = RayHost(LearnerSpec(load_config(EXAMPLE).model), lambda _: ActorPlacement())
    answer = asyncio.get_running_loop().create_future()
    asking = asyncio.ensure_future(host._all([answer]))  # pyright: ignore[reportPrivateUsage]
    await asyncio.sleep(0)
    answer.set_result(1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
