"""A long run whose processes are killed at random every few seconds: does the bookkeeping stay right, does anything grow?

    python bench/soak.py                                     2,000 tiny steps on two torch workers, a kill every 8 s or so
    python bench/soak.py --engine vllm --workers 1 --every 0 the same work on vLLM, nothing killed: what a worker gathers

The run is a real one on Ray actors: a learner, rollout workers and grading processes, and all that a run is told to by
default. Every kill is a SIGKILL to one of them, or a SIGSTOP that leaves it silent. At the end every step must stand in the
metrics once, every completion must have been graded, and memory, file handles, threads, files in /dev/shm, Ray objects and
processes must be where they were in the second quarter. The table goes to standard output, the figures to
`bench/soak.json`. Exit status 1 if anything is wrong.
"""

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import psutil

from lora.peft.files import read_peft
from rl.algorithm.evaluation.held_out import Evaluation
from rl.cluster.components import open_components
from rl.cluster.connect import disconnect
from rl.config import RunConfig
from rl.launch.restarts import loop_with_restarts
from rl.launch.sinks import open_sinks
from rl.launch.train_recipe import TRAIN
from rl.run.directory import RunDirectory
from rl.run.sinks import Ended, Sink
from rl.settings.toml import load_config
from rl.train import Components
from rl.types import Group
from rollout.ray import private as ray_private

TINY = Path(__file__).resolve().parents[1] / "examples" / "tiny.toml"
RESULTS = Path(__file__).with_name("soak.json")
GROWTH = 1.1
"""A figure may end this much above its second quarter."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a run holds at one moment."""

    seconds: float
    steps: int
    kills: int
    driver_mib: float
    """Memory of this process alone, which is never restarted (resident)."""
    driver_used_mib: float
    """What this process has asked of its C allocator and not given back: without holes between allocations."""
    learner_mib: float
    workers_mib: float
    """Of the actors that are there at this moment (resident)."""
    total_mib: float
    """Memory of all processes of the run, shared pages counted once (PSS)."""
    file_handles: int
    threads: int
    processes: int
    shm_files: int
    ray_objects: int


class Counting(Sink):
    """The steps so far."""

    steps = 0

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        self.steps = step

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        """Not of interest."""

    def close(self, ended: Ended) -> None:
        """Nothing to release."""


def sample(started: float, steps: int, kills: int) -> Sample:
    this = psutil.Process()
    family = [this, *this.children(recursive=True)]
    return Sample(
        round(time.monotonic() - started, 1),
        steps,
        kills,
        round(this.memory_info().rss / 2**20, 1),
        round(used_heap() / 2**20, 1),
        round(sum(_rss(process) for process in family if _is(process, "ray::LearnerActor")) / 2**20, 1),
        round(sum(_rss(process) for process in family if _is(process, "ray::EngineActor")) / 2**20, 1),
        round(sum(_pss(process) for process in family) / 2**20, 1),
        this.num_fds(),
        this.num_threads(),
        len(family),
        len(shared_files({process.pid for process in family})),
        ray_private.held_references(),
    )


class MallocFigures(ctypes.Structure):
    """`struct mallinfo2` of the GNU C library, in bytes."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
    )]  # fmt: skip


def used_heap() -> int:
    """Bytes in use from `malloc` in this process, of all arenas and in maps of their own."""
    figures = ctypes.CDLL(None).mallinfo2
    figures.restype = MallocFigures
    found = figures()
    return int(found.uordblks + found.hblkhd)


def shared_files(family: set[int]) -> set[Path]:
    """Files in shared memory whose maker belongs to the run, or is dead: a worker names its own by its process id."""
    found = {path for path in Path("/dev/shm").rglob("*") if path.is_file()}
    makers = {path: re.search(r"/(?:rankone-|__KMP_REGISTERED_LIB_)(\d+)", str(path)) for path in found}
    return {
        path for path, maker in makers.items()
        if maker is not None and (int(maker[1]) in family or not psutil.pid_exists(int(maker[1])))
    }  # fmt: skip


def _is(process: psutil.Process, title: str) -> bool:
    with contextlib.suppress(psutil.Error):
        return title in " ".join(process.cmdline())
    return False


def _rss(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return process.memory_info().rss
    return 0


def _pss(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return cast(int, process.memory_full_info().pss)
    return 0


def graders() -> list[int]:
    found: list[int] = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any("rewards.grading.worker" in part for part in child.cmdline()):
                found.append(child.pid)
    return found


async def victim(kind: str, parts: Components, rng: random.Random) -> int | None:
    """The process id of one of that kind, if there is one to be asked."""
    if kind == "grader":
        return rng.choice(graders() or [0]) or None
    actors: list[Any] = [parts.learner] if kind == "learner" else list(parts.engine.replicas())
    with contextlib.suppress(Exception):  # it is being restarted: no victim this time
        async with asyncio.timeout(2):
            return await rng.choice(actors).pid()
    return None


async def havoc(parts: Components, every: float, kills: Counter[str], rng: random.Random) -> None:
    """Kill somebody every so often, for ever."""
    while every:
        await asyncio.sleep(rng.expovariate(1 / every))
        kind = rng.choice(["worker", "worker", "worker stopped", "learner", "grader"])
        pid = await victim(kind.split()[0], parts, rng)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP if "stopped" in kind else signal.SIGKILL)
                kills[kind] += 1


async def observe(samples: list[Sample], counting: Counting, kills: Counter[str], every: float) -> None:
    started = time.monotonic()
    while True:
        await asyncio.sleep(every)
        samples.append(sample(started, counting.steps, kills.total()))
        print("  ".join(f"{name} {value}" for name, value in asdict(samples[-1]).items()), file=sys.stderr, flush=True)


def settings(options: argparse.Namespace) -> RunConfig:
    sets = {
        "runtime": "ray",
        "num_steps": options.steps,
        "problems_per_step": 4,
        "sampling.group_size": 4,
        "learner.lr": 1e-4,
        "learner.max_restarts": 1000,
        "learner.stall_timeout": 60,
        "rollout.engine": options.engine,
        "rollout.num_workers": options.workers,
        "rollout.max_restarts": 1000,
        "rollout.stall_timeout": 120 if options.engine == "vllm" else 10,
        "reward.workers": 1,
        "evaluate.every": 50,
        "evaluate.num_problems": 8,
        "liveness.every": 5,
    }
    return load_config(TINY, [f"{name}={value}" for name, value in sets.items()])


async def soak(options: argparse.Namespace, out: Path) -> tuple[RunConfig, list[Sample], Counter[str], float]:
    prepared = TRAIN.prepare(settings(options), TINY.parent)
    directory, counting = RunDirectory.create(out, prepared.config), Counting()
    samples: list[Sample] = []
    kills: Counter[str] = Counter()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(disconnect)  # in the loop, with whose thread the cluster dies: left later, Ray ends the process
        parts = await stack.enter_async_context(open_components(prepared.config, out.name, prepared.encode))
        beside = [
            asyncio.create_task(havoc(parts, options.every, kills, random.Random(options.seed))),
            asyncio.create_task(observe(samples, counting, kills, options.report)),
        ]
        started = time.monotonic()
        try:
            async with open_sinks(prepared.config, directory, counting) as sinks:
                await loop_with_restarts(TRAIN, prepared, parts, directory, sinks, resume=False)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
    return prepared.config, samples, kills, time.monotonic() - started


def wrong_bookkeeping(config: RunConfig, directory: RunDirectory) -> list[str]:
    """What does not add up in the run's files."""
    rows = directory.metrics()
    found: list[str] = []
    if [row["step"] for row in rows] != list(range(config.num_steps + 1)):
        found.append("the metrics do not hold every step once")
    outcomes = [sum(v for k, v in row.items() if k.startswith("reward/outcome/")) for row in rows[:-1]]
    if any(abs(total - 1) > 1e-6 for total in outcomes):
        found.append("a step's outcomes do not add up to all of its completions")
    versions = [row["policy/version"] for row in rows[:-1]]
    skipped = [row.get("update/skipped", 0.0) + row.get("update/nonfinite", 0.0) for row in rows[:-1]]
    if any(b - a != (0 if idle else 1) for a, b, idle in zip(versions, versions[1:], skipped, strict=False)):
        found.append("a policy version is missing or there twice")
    if any(row["policy/version_lag"] for row in rows[:-1]):
        found.append("a completion came from an older policy")
    if list(directory.checkpoints.glob(".*")) + list(directory.adapters.glob(".*")):
        found.append("half-written files are left")
    read_peft(directory.adapters / "last")
    return found


def grown(samples: Sequence[Sample]) -> dict[str, tuple[float, float]]:
    """The most of each figure in the second quarter of the samples and in the last: less is there while something that
    was killed is being replaced."""
    quarter = max(1, len(samples) // 4)
    names = [name for name in asdict(samples[0]) if name not in ("seconds", "steps", "kills")]
    second, last = samples[quarter : 2 * quarter] or samples, samples[-quarter:]
    return {name: (max(getattr(s, name) for s in second), max(getattr(s, name) for s in last)) for name in names}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--engine", choices=["torch", "vllm"], default="torch")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=float, default=8.0, help="mean seconds between kills; 0 kills nothing")
    parser.add_argument("--report", type=float, default=10.0, help="seconds between samples")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shm = shared_files(set())
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "soak")
        config, samples, kills, seconds = asyncio.run(soak(options, out))
        wrong = wrong_bookkeeping(config, RunDirectory.open(out))
    figures = grown(samples)
    wrong += [f"{name} grew from {a:g} to {b:g}" for name, (a, b) in figures.items() if b > a * GROWTH + 8]
    if left := shared_files({os.getpid()}) - shm:
        wrong.append(f"{len(left)} files are left in /dev/shm, such as {min(left)}")
    print(f"{options.steps:,} steps on {options.workers} {options.engine} worker(s) in {seconds / 60:.0f} min")
    print(f"kills: {', '.join(f'{count} {kind}' for kind, count in sorted(kills.items())) or 'none'}")
    print(f"{'at most':14}{'2nd quarter':>12}{'last quarter':>14}")
    for name, (a, b) in figures.items():
        print(f"{name:14}{a:12,.0f}{b:14,.0f}")
    print("wrong: " + ("; ".join(wrong) or "nothing"))
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[f"{options.engine}, {'a kill' if options.every else 'no kills'}"] = {
        "steps": options.steps, "seconds": round(seconds), "kills": dict(kills), "wrong": wrong,
        "most_in_second_and_last_quarter": figures,
    }  # fmt: skip
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
