"""N policies together against N runs in turn: time, and memory of all processes.

    python bench/policies.py examples/tiny.toml --policies 4 --set num_steps=20

Both train the same runs: seeds 0 to N-1 of one configuration. Together is `rankone sweep`; in turn is `rankone train`
for each, every one of which loads the base model and starts its engines anew, as separate runs do.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

SAMPLE_S = 1.0


def memory(process: psutil.Process) -> float:
    """GiB of a process and all below it; what they share is counted once."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except psutil.Error:  # it ended meanwhile
            continue
    return total / 2**30


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds until the command ends, and the most memory that was seen."""
    began, peak = time.monotonic(), 0.0
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, memory(watched))
            time.sleep(SAMPLE_S)
        if process.returncode:
            errors.seek(0)
            sys.exit(errors.read())
    return time.monotonic() - began, peak


def accuracies(rows: list[dict[str, Any]]) -> list[float]:
    return [row["final_accuracy"] for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--policies", type=int, default=4)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    sets = [part for setting in asked.set for part in ("--set", setting)]
    rankone = [sys.executable, "-m", "rl.cli"]
    with tempfile.TemporaryDirectory(prefix="policies-") as scratch:
        home = Path(scratch)
        file = home / "sweep.toml"
        seeds = list(range(asked.policies))
        file.write_text(
            f"base = {json.dumps(str(asked.config.resolve()))}\npolicies_at_once = {asked.policies}\n[axes]\nseed = {seeds}\n"
        )
        together, together_gib = measure([*rankone, "sweep", str(file), "--out", str(home / "sweep"), *sets])
        one_by_one = [
            measure(
                [*rankone, "train", str(asked.config), "--out", str(home / f"{seed}"), *sets, "--set", f"seed={seed}"]
            )
            for seed in seeds
        ]
        swept = json.loads((home / "sweep" / "sweep.json").read_text())
        alone = [
            [json.loads(line) for line in (home / f"{seed}" / "metrics.jsonl").read_text().splitlines()]
            for seed in seeds
        ]
    in_turn = sum(seconds for seconds, _ in one_by_one)
    one_gib = max(gib for _, gib in one_by_one)
    result = {
        "policies": asked.policies,
        "together_s": round(together, 1),
        "in_turn_s": round(in_turn, 1),
        "times_faster": round(in_turn / together, 2),
        "together_gib": round(together_gib, 2),
        "one_run_gib": round(one_gib, 2),
        "beside_each_other_gib": round(one_gib * asked.policies, 2),
        "accuracies_together": accuracies(swept),
        "accuracies_in_turn": [
            next(r["eval/accuracy"] for r in reversed(rows) if "eval/accuracy" in r) for rows in alone
        ],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
