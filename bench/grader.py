"""How right and how fast the default reward is, beside `math-verify` alone on the same cases in one run.

    python bench/grader.py                 the table, from the data under ../shared/data
    python bench/grader.py --fuzz 100000   generated texts: none may crash, hang or write

Both graders run in the same killable processes with the same deadline; `math-verify` keeps its own time-outs.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from grader_cases import BOMBS, DATA, Case, cases
from grader_fuzz import fuzz

from rewards.config import RewardConfig
from rewards.grading.pool import GraderPool
from rewards.types import Outcome, Problem, Reward

DEADLINE_S = 12.0
"""Past math-verify's own time-outs of 5 s for parsing and 5 s for comparing."""


def math_verify_alone(problem: Problem, completion: str) -> Reward:
    """`math-verify` as its documentation uses it."""
    import math_verify

    library = cast(Any, math_verify)
    reference = library.parse(f"\\boxed{{{problem.answer}}}")
    right = bool(library.verify(reference, library.parse(completion)))
    return Reward(float(right), Outcome.CORRECT if right else Outcome.WRONG)


async def graded(function: str, work: Sequence[Case], workers: int) -> tuple[list[tuple[Reward, float]], float]:
    """Each case's reward and seconds, and the seconds for all."""
    pool = GraderPool(RewardConfig(function=function, workers=workers, deadline_s=DEADLINE_S, max_failed_fraction=1))
    try:
        await pool.grade([Problem("warm", "", "5")], [["5"] * 32])
        start = time.perf_counter()
        problems = [Problem(str(i), c.question, c.reference) for i, c in enumerate(work)]
        groups = await pool.grade_timed(problems, [[c.text] for c in work])
        return [g[0] for g in groups], time.perf_counter() - start
    finally:
        await pool.close()


def table(name: str, work: Sequence[Case], done: Sequence[tuple[Reward, float]]) -> Iterator[str]:
    for kind in dict.fromkeys(c.kind for c in work):
        rows = [(c, r, s) for c, (r, s) in zip(work, done, strict=True) if c.kind == kind]
        false_positives = sum(r.value == 1 and not c.right for c, r, _ in rows)
        false_negatives = sum(r.value == 0 and c.right for c, r, _ in rows)
        hangs = sum(r.outcome is Outcome.TIMEOUT for _, r, _ in rows)
        times = sorted(s * 1000 for _, _, s in rows)
        accuracy = 1 - (false_positives + false_negatives) / len(rows)
        yield (
            f"| {kind} | {name} | {len(rows)} | {accuracy:.2%} | {false_positives} | {false_negatives} | {hangs} "
            f"| {statistics.median(times):.2f} | {times[int(len(times) * 0.99)]:.1f} | {times[-1]:.0f} |"
        )


def compare(count: int, workers: int, show: int) -> None:
    work = cases(count)
    graders = {"rankone": "math_answer", "math-verify": f"{Path(__file__).resolve()}:math_verify_alone"}
    lines, totals = list[str](), list[str]()
    for name, function in graders.items():
        done, seconds = asyncio.run(graded(function, work, workers))
        lines += table(name, work, done)
        totals.append(f"{name}: {len(work) / seconds:,.0f} cases/s over all sets with {workers} processes")
        for wanted, label in ((False, "false positive"), (True, "false negative")):
            missed = [
                c for c, (r, _) in zip(work, done, strict=True) if c.right is wanted and (r.value == 1) is not wanted
            ]
            for case in missed[:show]:
                print(f"{name}, {label}: {case.reference[:60]!r} and {case.answer[:60]!r}")
    print(
        "| set | grader | cases | accuracy | false positives | false negatives | hangs | median ms | 99 % ms | max ms |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    print(
        "\n".join(
            sorted(lines, key=lambda line: list(dict.fromkeys(c.kind for c in work)).index(line[2:].split(" |")[0]))
        )
    )
    print("\n".join(totals))
    print(asyncio.run(worked(workers, every_bomb=0)))
    print(asyncio.run(worked(workers, every_bomb=10)))


async def worked(workers: int, every_bomb: int) -> str:
    """GSM8K's own worked answers, 8 times each, every so many of them replaced by a bomb: how many are right, how fast."""
    rows = [json.loads(r) for r in (DATA / "gsm8k" / "test.jsonl").read_text().splitlines()]
    problems = [Problem(str(i), r["question"], r["answer"]) for i, r in enumerate(rows)]
    texts = [[row["answer"]] * 8 for row in rows]
    bombs = list[tuple[int, int]]()
    if every_bomb:
        bombs = [divmod(i, 8) for i in range(0, 8 * len(rows), every_bomb)]
        for i, (group, place) in enumerate(bombs):
            texts[group][place] = f"#### {BOMBS[i % len(BOMBS)]}"
    pool = GraderPool(RewardConfig(workers=workers))
    try:
        await pool.grade(problems[:32], [[r["answer"]] for r in rows[:32]])
        start = time.perf_counter()
        groups = await pool.grade_timed(problems, texts)
        seconds = time.perf_counter() - start
    finally:
        await pool.close()
    at = set(bombs)
    real = [grade for g, group in enumerate(groups) for i, grade in enumerate(group) if (g, i) not in at]
    times = sorted(1000 * s for _, s in real)
    return (
        f"worked GSM8K answers, {len(bombs)} of {8 * len(rows)} replaced by bombs: {8 * len(rows) / seconds:,.0f} grades/s "
        f"with {workers} processes; {sum(r.value == 1 for r, _ in real)} of {len(real)} others right, "
        f"{times[int(0.99 * len(times))]:.1f} ms at the 99th percentile, {times[-1]:.0f} ms at most; "
        f"{sum(groups[g][i][0].value == 1 for g, i in bombs)} bombs accepted"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the default reward with math-verify alone, or fuzz it.")
    parser.add_argument("--fuzz", type=int, metavar="N", help="grade N generated texts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gsm8k", type=int, default=200, metavar="N", help="GSM8K problems to make cases from")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print up to N wrong verdicts of each kind")
    options = parser.parse_args()
    if options.fuzz:
        raise SystemExit(1 if asyncio.run(fuzz(options.fuzz, options.workers, options.seed)) else 0)
    compare(options.gsm8k, options.workers, options.show)


if __name__ == "__main__":
    main()
