"""A run loses no more than the step in progress, whatever is killed or full, and says what happened."""

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small_disk import small_disk
from helpers.zygote import LOADED_BY_RUNS

from lora.peft.files import read_peft, unpack
from rl.cli.app import app
from rl.cluster.components import open_components
from rl.cluster.ray_host import RayHost
from rl.launch.recipe import Prepared
from rl.launch.restarts import loop_with_restarts
from rl.launch.train_recipe import TRAIN
from rl.learner.joint_updates import PolicyLearner
from rl.run.directory import RunDirectory
from rl.run.sinks import Ended, Sink, Sinks
from rl.settings.toml import load_config
from rl.train import Components
from rl.types import Group, LearnerDied
from rollout.ray.engine import RayEngine

EXAMPLE = Path(__file__).parents[3] / "examples" / "tiny.toml"
SETTINGS = {
    "problems_per_step": "8", "sampling.group_size": "4", "evaluate.every": "10", "evaluate.num_problems": "8",
    "reward.workers": "1",
}  # fmt: skip


def overrides(**settings: str) -> list[str]:
    return [f"{name}={value}" for name, value in (SETTINGS | settings).items()]


def steps(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return unpack(read_peft(out / "adapters" / "last").payload)[0]


def train_once(out: str, settings: Sequence[str]) -> None:
    """In a process of its own: a run, or the rest of one."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    sets = [part for setting in settings for part in ("--set", setting)]
    resume = ["--resume"] if (Path(out) / "config.toml").exists() else []
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    sys.exit(app(["train", str(EXAMPLE), "--out", out, *resume, *sets], standalone_mode=False))


def written(out: Path) -> int:
    """Lines of the metrics file now, whole or not."""
    file = out / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in listed.stdout.split()]


KILLS = 8


def test_a_run_killed_at_random_points_ends_as_one_that_never_was(tmp_path: Path) -> None:
    """Bit for bit, on a CPU with the torch engine; the processes that grade end with it. Every fourth kill is a SIGTERM,
    which ends a run in order. A kill could hit nothing while modules load: the processes are forked with them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LOADED_BY_RUNS))
    settings = overrides(num_steps="60")

    def start(out: Path) -> Any:
        process = context.Process(target=train_once, args=(str(out), settings))
        process.start()
        return process

    whole = start(tmp_path / "whole")
    whole.join(300)
    assert whole.exitcode == 0
    rng, out, kills, reached = random.Random(0), tmp_path / "killed", 0, set[int]()
    while kills < KILLS:
        process, before = start(out), written(out)
        more, moment = rng.randrange(5), rng.uniform(0, 0.3)
        while process.is_alive() and written(out) < before + more:
            time.sleep(0.005)
        time.sleep(moment)
        graders = children_of(process.pid)
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(process.pid, signal.SIGTERM if kills % 4 == 3 else signal.SIGKILL)
        process.join(60)
        assert not process.is_alive()
        if process.exitcode == 0:  # it came to its end before the kill: kill another one
            assert steps(out) == list(range(61))
            shutil.rmtree(out)
            continue
        kills += 1
        reached.add(written(out))
        if written(out):
            for which in ("best", "last"):
                read_peft(out / "adapters" / which)
        deadline = time.monotonic() + 10
        while any(Path("/proc", str(grader)).exists() for grader in graders) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(Path("/proc", str(grader)).exists() for grader in graders)
    last = start(out)
    last.join(300)
    assert last.exitcode == 0
    assert steps(out) == steps(tmp_path / "whole") == list(range(61))
    one, other = weights(out), weights(tmp_path / "whole")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert len(reached) > 4, "the kills came at too few points to show anything"
    assert not [*(out / "checkpoints").glob(".*"), *(out / "adapters").glob(".*")]


class Reaper(Sink):
    """Kills the learner or a rollout worker, each after a step of its own."""

    def __init__(self, at: Mapping[int, int]) -> None:
        self._at = dict(at)

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        if step in self._at:
            os.kill(self._at.pop(step), signal.SIGKILL)

    def on_eval(self, *_: object) -> None:
        """Goes on."""

    def close(self, ended: Ended) -> None:
        """Nothing to release."""


def prepared(runtime: str, **settings: str) -> Prepared:
    fixed = {"runtime": runtime, "num_steps": "12", "evaluate.every": "4", "liveness.every": "1"}
    return TRAIN.prepare(load_config(EXAMPLE, overrides(**fixed | settings)), EXAMPLE.parent)


async def pids(parts: Components) -> dict[str, int]:
    """Return those of the learner and of the worker."""
    learner, worker = parts.learner, parts.engine.replicas()[0]
    assert isinstance(learner, PolicyLearner)
    host = learner._host  # pyright: ignore[reportPrivateUsage]
    assert isinstance(host, RayHost)
    assert isinstance(worker, RayEngine)
    return {"learner": await host.pid(), "worker": await worker.pid()}


@pytest.mark.usefixtures("ray_cluster")
async def test_a_run_outlives_its_learner_and_its_only_worker(tmp_path: Path) -> None:
    """Both are killed in turn; then the learner for good, which ends the run, and the run is resumed: it ends bit for
    bit as a run in one process that nobody killed."""
    whole = prepared("local")
    async with open_components(whole.config, "run", whole.encode) as parts:
        await loop_with_restarts(TRAIN, whole, parts, RunDirectory.create(tmp_path / "calm", whole.config), Sinks([]), resume=False)  # fmt: skip
    mortal, out = prepared("ray"), tmp_path / "killed"
    directory = RunDirectory.create(out, mortal.config)
    async with open_components(mortal.config, "run", mortal.encode) as parts:
        process = await pids(parts)
        kills = Sinks([Reaper({2: process["learner"], 5: process["worker"]})])
        first = prepared("ray", num_steps="8")
        await loop_with_restarts(TRAIN, first, parts, directory, kills, resume=False)
        assert steps(out) == list(range(9))
        now = await pids(parts)
        assert not set(process.values()) & set(now.values()), "both are new ones"
        last = prepared("ray", **{"learner.max_restarts": "0"})
        with pytest.raises(LearnerDied, match="the learner died"):
            await loop_with_restarts(TRAIN, last, parts, directory, Sinks([Reaper({9: now["learner"]})]), resume=True)
        assert steps(out) == list(range(len(steps(out))))
        assert 10 <= len(steps(out)) < 13
        await parts.learner.restart()
        await loop_with_restarts(TRAIN, last, parts, directory, Sinks([]), resume=True)
    assert steps(out) == list(range(13))
    one, other = weights(out), weights(tmp_path / "calm")
    assert all(torch.equal(one[name], other[name]) for name in one)


def train(out: Path, capsys: pytest.CaptureFixture[str], *more: str, **settings: str) -> tuple[int, str]:
    sets = [part for setting in overrides(**settings) for part in ("--set", setting)]
    capsys.readouterr()
    try:
        app(["train", str(EXAMPLE), "--out", str(out), *more, *sets])
    except SystemExit as end:
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rankone: ")]
        return int(end.code or 0), said[0] if said else ""
    raise AssertionError("a command ends with an exit status")


def test_a_full_disk_ends_the_run_in_one_line_and_room_lets_it_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 2_000_000)
        code, said = train(disk / "run", capsys, num_steps="400", tensorboard="false")
        assert (code, "No space left on device" in said, "--resume" in said) == (1, True, True), said
        assert str(disk / "run") in said
        adapter = read_peft(disk / "run" / "adapters" / "last")
        assert unpack(adapter.payload)[1].rank == 8
        ballast.unlink()
        done = len(steps(disk / "run"))
        code, said = train(disk / "run", capsys, "--resume", num_steps=str(done + 2), tensorboard="false")
        assert code == 0, said
        assert steps(disk / "run") == list(range(done + 3))


FILL_THE_STORE = """
import sys, ray
from rl.cli.app import app
from rl.monitoring.progress import LogLines

ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False,
         namespace="rankone", _temp_dir=sys.argv[1], _system_config={"max_direct_call_object_size": 0})
kept, stepped = [], LogLines.on_step

def fill(self, step, metrics, groups):
    stepped(self, step, metrics, groups)
    for size in (8 << 20, 1 << 16, 1 << 12) if step == 3 else ():
        try:
            while True:
                kept.append(ray.put(b"x" * size))
        except ray.exceptions.OutOfDiskError:
            pass

LogLines.on_step = fill
app(["train", *sys.argv[2:]])
"""


def test_a_full_object_store_ends_the_run_in_one_line_and_room_lets_it_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Path(tempfile.mkdtemp(prefix="ro-", dir="/tmp"))  # sockets below it: a long path would not do
    sets = [part for setting in overrides(runtime="ray", num_steps="30") for part in ("--set", setting)]
    try:
        with small_disk(place / "disk", "64m") as disk:
            arguments = [str(disk / "ray"), str(EXAMPLE), "--out", str(tmp_path / "run"), *sets]
            command = [sys.executable, "-c", FILL_THE_STORE, *arguments]
            ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
            said = [line for line in ended.stderr.splitlines() if line.startswith("rankone: ")]
            assert (ended.returncode, len(said)) == (1, 1), ended.stdout + ended.stderr
            # The store's own error comes first, or the learner's process, whose logs are on that disk, is dead before.
            assert "object store is full" in said[0] or f"disk below {disk / 'ray'}" in said[0], said[0]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    assert steps(tmp_path / "run") == [0, 1, 2, 3]
    code, said = train(tmp_path / "run", capsys, "--resume", num_steps="6")
    assert code == 0, said
    assert steps(tmp_path / "run") == list(range(7))


def test_a_resume_that_would_harm_the_run_is_refused_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another policy's shape, a run that is under way, and checkpoints of which none can be read."""
    out = tmp_path / "run"
    assert train(out, capsys, num_steps="2")[0] == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != ".lock"}
    code, said = train(out, capsys, "--resume", **{"lora.rank": "2"})
    assert (code, "lora.rank is 2, and was 8" in said) == (2, True), said
    with RunDirectory.open(out).locked():
        code, said = train(out, capsys, "--resume", num_steps="3")
        assert (code, f"another run writes to {out} (process {os.getpid()} on" in said) == (2, True), said
    for checkpoint in (out / "checkpoints").glob("step-*"):
        checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    code, said = train(out, capsys, "--resume", num_steps="2")
    assert (code, "none of the 2 checkpoints" in said) == (2, True), said
    for path, content in before.items():
        if path.parent.name not in ("checkpoints", "tensorboard") and path.name != "curve.png":
            assert path.read_bytes() == content, path
    for checkpoint in (out / "checkpoints").glob("step-*"):
        checkpoint.write_bytes(before[checkpoint])
    code, said = train(out, capsys, "--resume", num_steps="3")
    assert code == 0, said
    assert steps(out) == [0, 1, 2, 3]


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        code, said = train(disk / "run", capsys)
        assert (code, str(disk / "run") in said, "--out" in said) == (2, True, True), said
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert train(disk / "run", capsys, num_steps="1", tensorboard="false")[0] == 0
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        code, said = train(disk / "run", capsys, "--resume", num_steps="2", tensorboard="false")
        assert (code, "Read-only" in said, "make it writable" in said) == (1, True, True), said
