"""What an adapter can hold, and what large batches cost it: supervised runs on answers that cannot be guessed.

    python bench/capacity.py                 36 minutes on one of two busy cores
    python bench/capacity.py --seeds 1       a third of that

Every problem has a key for its question and random digits for its answer, log2(10) bits each, so what a policy has
learned of them can be counted: those bits less its log-loss on the same problems (as in section "LoRA's capacity" of
Schulman et al., 2025). The base is the tiny model after all of its weights have learned other keys: it knows what is asked
and nothing of the answers. Batch sizes are shown at the best of three learning rates, by the mean of the seeds. The figures
go to `bench/capacity.json`, the picture to `docs/capacity.png`.
"""

import argparse
import asyncio
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from lora.types import Adapter
from rewards.types import Problem
from rl.algorithm.journal import Journal
from rl.config import RunConfig
from rl.data import Split
from rl.launch.sft_recipe import SFT
from rl.learner.joint_updates import JointUpdates
from rl.learner.policies.policy import PolicySpec
from rl.learner.policy_host import LearnerSpec, LocalHost
from rl.run.export import export_merged
from rl.settings.toml import load_config
from rl.sft import log_loss, train_sft, with_cross_entropy
from rl.types import Group, Learner

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "examples" / "sft-tiny.toml"
RESULTS, PICTURE = ROOT / "bench" / "capacity.json", ROOT / "docs" / "capacity.png"
BITS = 8 * math.log2(10)
"""In an answer of eight digits."""
LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
BASE_PROBLEMS = 1024


@dataclass(frozen=True, slots=True)
class Setting:
    """One run."""

    rank: int
    """0 for every weight."""
    problems: int
    batch: int
    epochs: int
    lr: float
    seed: int


def capacity_settings(seeds: int) -> list[Setting]:
    """More and more to learn, in small batches. The rates were the better ones of 1e-3 and 3e-3, 3e-4 and 1e-3."""
    return [
        Setting(rank, problems, 32, 60, 3e-3 if rank else 1e-3, seed)
        for seed in range(seeds)
        for problems in (64, 128, 256, 512)
        for rank in (1, 2, 4, 8, 0)
    ]


def batch_settings(seeds: int) -> list[Setting]:
    """As many epochs, in larger and larger batches."""
    return [
        Setting(rank, 256, batch, 30, lr, seed)
        for seed in range(seeds)
        for batch in (16, 64, 256)
        for rank in (8, 0)
        for lr in ((1e-3, 3e-3, 1e-2) if rank else (3e-4, 1e-3, 3e-3))
    ]


class Nowhere(Journal):
    """A journal that keeps nothing."""

    async def restore(self, learner: Learner) -> int:
        return 0

    def history(self) -> Sequence[Mapping[str, Any]]:
        return ()

    async def on_metrics(self, step: int, adapter: Adapter, metrics: Mapping[str, float], learner: Learner) -> None:
        """Measured at the end."""

    def on_alarm(self, step: int, alarms: Sequence[str]) -> None:
        """It shows in what was learned."""

    def on_step(self, step: int, metrics: dict[str, float], groups: Sequence[Group]) -> None:
        """Measured at the end."""

    async def checkpoint(
        self, step: int, adapter: Adapter, learner: Learner, unlearned: Sequence[int] = (), drawn: object = None
    ) -> None:
        """Not resumed."""


def base_problems() -> list[Problem]:
    """What the base model has learned."""
    draw = random.Random("base")
    return [_problem(key, draw) for key in draw.sample(range(36**3), BASE_PROBLEMS)]


def new_problems(number: int, seed: int) -> list[Problem]:
    """Problems of which the base model has learned nothing."""
    known, draw = {problem.id for problem in base_problems()}, random.Random(seed)
    keys = [key for key in draw.sample(range(36**3), number + BASE_PROBLEMS) if _name(key) not in known]
    return [_problem(key, draw) for key in keys[:number]]


def _problem(key: int, draw: random.Random) -> Problem:
    return Problem(_name(key), f"{_name(key)} =", "".join(draw.choices("0123456789", k=8)))


def _name(key: int) -> str:
    return "".join(LETTERS[key // 36**place % 36] for place in range(3))


def configured(setting: Setting, model: str) -> RunConfig:
    sets = {
        "seed": setting.seed,
        "num_steps": setting.epochs * setting.problems // setting.batch,
        "problems_per_step": setting.batch,
        "model.name": model,
        "lora.rank": setting.rank or 1,
        "learner.weights": "lora" if setting.rank else "full",
        "learner.lr": setting.lr,
        "evaluate.every": 10**6,
        "rollout.engine": "torch",  # it would sample every weight, and nothing is sampled here
    }
    return load_config(CONFIG, [f"{name}={value}" for name, value in sets.items()])


def teach(config: RunConfig, problems: Sequence[Problem]) -> tuple[Adapter, float, int]:
    """The last policy, what it knows of the answers in bits, and how many numbers were trained."""
    prepared = SFT.prepare(config, CONFIG.parent)
    config = with_cross_entropy(prepared.config)
    host = LocalHost(LearnerSpec(config.model, "cpu", config.learner, config.lora))
    split = Split(train=tuple(problems), held_out=tuple(problems[:1]))

    async def taught() -> tuple[Adapter, float, int]:
        spec = PolicySpec("capacity", config.lora, config.learner, 1.0, config.seed)
        learner = await JointUpdates(host).register(spec)
        policy = await train_sft(config, split, prepared.encode_sft, learner, Nowhere())
        lesson = [prepared.encode_sft(problem) for problem in problems]
        nats = await log_loss(learner, lesson) * sum(len(one.completion) for one in lesson)
        return policy, len(problems) * BITS - nats / math.log(2), (await learner.facts())["trained_parameters"]

    return asyncio.run(taught())


def run_all(settings: Sequence[Setting], model: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, setting in enumerate(settings, 1):
        began = time.monotonic()
        _, bits, trained = teach(configured(setting, model), new_problems(setting.problems, setting.seed))
        rows.append({**asdict(setting), "bits": round(bits), "trained": trained})
        seconds = time.monotonic() - began
        print(f"{number}/{len(settings)}  {setting}: {bits:,.0f} bits in {seconds:.0f} s", file=sys.stderr, flush=True)
    return rows


def best(rows: Sequence[dict[str, Any]], **wanted: float) -> list[dict[str, Any]]:
    """The seeds of these runs at their best learning rate."""
    mine = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    by_rate = [[row for row in mine if row["lr"] == lr] for lr in sorted({row["lr"] for row in mine})]
    return max(by_rate, key=lambda seeds: fmean(row["bits"] for row in seeds))


def draw(capacity: Sequence[dict[str, Any]], batches: Sequence[dict[str, Any]]) -> None:
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), dpi=130, layout="constrained")
    numbers = sorted({row["problems"] for row in capacity})
    for rank in (1, 2, 4, 8, 0):
        curve = [best(capacity, rank=rank, problems=number) for number in numbers]
        _curve(left, [number * BITS for number in numbers], curve, lambda row: row["bits"])
    left.set(xlabel="bits in the answers", ylabel="bits learned", title="how much: 60 epochs, batches of 32")
    sizes = sorted({row["batch"] for row in batches})
    for rank in (8, 0):
        curve = [best(batches, rank=rank, batch=size) for size in sizes]
        _curve(right, sizes, curve, lambda row: row["problems"] * BITS - row["bits"])
    offered = f"{batches[0]['problems'] * BITS:,.0f}"
    right.set(xscale="log", xlabel="completions a step", ylabel=f"bits of {offered} that are not learned")
    right.set(title="batch size: 30 epochs, each at its best rate", ylim=(0, None))
    right.set_xticks(sizes, [str(size) for size in sizes])
    right.set_xticks([], minor=True)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(PICTURE)


def _curve(
    axes: Any, x: Sequence[float], found: Sequence[list[dict[str, Any]]], y: Callable[[dict[str, Any]], float]
) -> None:
    """Means of the seeds, and their ranges."""
    values = [[y(row) for row in seeds] for seeds in found]
    first = found[0][0]
    name = f"rank {first['rank']}" if first["rank"] else "every weight"
    (line,) = axes.plot(x, [fmean(seeds) for seeds in values], "o-", label=f"{name}, {first['trained']:,} numbers")
    axes.fill_between(x, [min(v) for v in values], [max(v) for v in values], color=line.get_color(), alpha=0.2)


def table(rows: Sequence[dict[str, Any]], by: str) -> str:
    """A line for each method and each value of `by`."""
    lines: list[str] = []
    for rank in sorted({row["rank"] for row in rows}, key=lambda rank: (rank == 0, rank)):
        for value in sorted({row[by] for row in rows}):
            seeds = best(rows, rank=rank, **{by: value})
            bits = [row["bits"] for row in seeds]
            lines.append(
                f"{'rank ' + str(rank) if rank else 'every weight':13}{by} {value:4}  lr {seeds[0]['lr']:g}  "
                f"{fmean(bits):8,.0f} bits ({min(bits):,} to {max(bits):,}) of {seeds[0]['problems'] * BITS:,.0f}"
            )
    return "\n".join(lines)


def measure(seeds: int) -> None:
    """Run everything, and write down what came of it."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        base = Setting(rank=0, problems=BASE_PROBLEMS, batch=32, epochs=60, lr=1e-3, seed=0)
        config = configured(base, "tiny-random")
        policy, known, _ = teach(config, base_problems())
        model = str(export_merged(policy, config.model, Path(scratch) / "base"))
        print(f"the base model knows {known:,.0f} of {BASE_PROBLEMS * BITS:,.0f} bits", file=sys.stderr)
        capacity = run_all(capacity_settings(seeds), model)
        batches = run_all(batch_settings(seeds), model)
    facts = {"base_bits": round(known), "capacity": capacity, "batches": batches}
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--redraw", action="store_true", help="from the figures that are there")
    asked = parser.parse_args()
    if not asked.redraw:
        measure(asked.seeds)
    facts = json.loads(RESULTS.read_text())
    draw(facts["capacity"], facts["batches"])
    print(f"{table(facts['capacity'], 'problems')}\n\n{table(facts['batches'], 'batch')}")


if __name__ == "__main__":
    main()
