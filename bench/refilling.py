"""Counts the steps and completions until a run's held-out accuracy reaches a goal, with and without refilling its steps.

    python bench/refilling.py                      the demo to 0.8, seeds 0 to 2: six runs of half an hour and more on two cores
    python bench/refilling.py --seeds 1 --rounds 4 one seed more, and other rounds

Each run begins anew and ends at the first evaluation that reaches the goal. What it came to is added to
`bench/refilling.json` at once, so that a series can be done in parts, and the table is over all that is there.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from rl import train

DEMO = Path(__file__).resolve().parents[1] / "examples" / "addition.toml"
RESULTS = Path(__file__).with_name("refilling.json")


@dataclass(slots=True)
class Cost:
    """What a run has taken so far."""

    refill_rounds: int
    seed: int
    goal: float
    steps: int = 0
    completions: int = 0
    """Sampled, those of refilled groups included; those of evaluations are not."""
    learned_from: int = 0
    """Completions of groups that had a signal or were not left out for want of one."""
    accuracies: list[tuple[int, float]] | None = None
    """Steps done and held-out accuracy, at each evaluation."""

    @property
    def reached(self) -> bool:
        """Whether the last evaluation has reached the goal."""
        return bool(self.accuracies) and self.accuracies[-1][1] >= self.goal


def measure(cost: Cost, every: int, problems_per_step: int = 32, group_size: int = 8) -> None:
    """Train until the goal is reached or the steps end, and count."""

    def count(step: int, metrics: Mapping[str, float]) -> bool:
        drawn = metrics.get("rollout/drawn", problems_per_step)
        cost.steps = step + 1
        cost.completions += int(drawn) * group_size
        cost.learned_from += int(metrics.get("rollout/kept", drawn)) * group_size
        if "eval/accuracy" in metrics:
            cost.accuracies = [*(cost.accuracies or []), (step + 1, metrics["eval/accuracy"])]
        return cost.reached

    settings = {
        "seed": cost.seed, "curriculum.refill_rounds": cost.refill_rounds, "evaluate.every": every,
        "problems_per_step": problems_per_step, "sampling.group_size": group_size,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as directory:
        train(DEMO, out=Path(directory) / "run", settings=settings, on_step=count, quiet=True)


def add(cost: Cost) -> list[Cost]:
    """Write a run's result beside those of before, in the place of an older one of the same settings; return them all."""
    rows = [Cost(**row) for row in json.loads(RESULTS.read_text())] if RESULTS.exists() else []
    kept = [row for row in rows if (row.refill_rounds, row.seed) != (cost.refill_rounds, cost.seed)]
    rows = sorted([*kept, cost], key=lambda row: (row.refill_rounds, row.seed))
    RESULTS.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return rows


def table(rows: list[Cost]) -> str:
    """Return a row for each number of rounds: the runs that reached the goal, their mean steps and completions."""
    lines = ["| refill_rounds | seeds | reached | steps | completions | learned from |", "| --- " * 6 + "|"]
    for rounds in sorted({row.refill_rounds for row in rows}):
        runs = [row for row in rows if row.refill_rounds == rounds]
        reached = [row for row in runs if row.reached] or runs
        steps, completions, learned = (
            f"{fmean(values):,.0f} ({', '.join(f'{value:,}' for value in values)})"
            for values in zip(*((row.steps, row.completions, row.learned_from) for row in reached), strict=True)
        )
        seeds = ", ".join(str(row.seed) for row in runs)
        share = f"{sum(row.reached for row in runs)} of {len(runs)}"
        lines.append(f"| {rounds} | {seeds} | {share} | {steps} | {completions} | {learned} |")
    return "\n".join(lines)


def main() -> None:
    """Run what was asked for, one run after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, nargs="+", default=[0, 3], help="values of curriculum.refill_rounds")
    parser.add_argument("--goal", type=float, default=0.8, help="held-out accuracy")
    parser.add_argument("--every", type=int, default=2, help="steps between evaluations")
    args = parser.parse_args()
    for seed in args.seeds:
        for rounds in args.rounds:
            cost = Cost(rounds, seed, args.goal)
            measure(cost, args.every)
            print(table(add(cost)), flush=True)


if __name__ == "__main__":
    main()
