"""What a neighbour takes that keeps one core busy: the speed of an update beside it, as a share of that without it.

Fair would be what it leaves: two thirds, where two cores serve two threads and the neighbour. The neighbour has the same
priority and comes and goes between turns. Beside it, plain products in the same process, which wait for the slower core
at the end of each, and an update whose cores share every operation instead of having microbatches of their own.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.compare.child import Child
from bench.compare.table import Row, paired
from bench.compare.work import load_work, step_prompts
from rollout.environment import torch_environment

PASSES = 5
"""Of the products in a turn: one is too short for the system to share its cores out."""
Turn = dict[str, Any]


def run(repeats: int) -> list[Row]:
    work = load_work()
    job = {"config": work.config.model_dump(mode="json"), "prompts": step_prompts(work), "passes": PASSES}
    environment = torch_environment(on_gpu=False)
    with (
        Child("learner_child", job, environment) as ours,
        Child("learner_child", job | {"side_by_side": False}, environment) as shared,
    ):
        ours.answer(), shared.answer()
        turns = [(*_both(ours), *_both(shared)) for _ in range(repeats)]
    alone, beside, shared_alone, shared_beside = ([_seconds(turn) for turn in one] for one in zip(*turns, strict=True))
    products, products_beside = ([turn[i]["product_seconds"] for turn in turns] for i in (0, 1))
    return [
        Row("neighbour", "speed of plain products, one core busy / none", paired(products, products_beside)),
        Row(
            "neighbour", "speed of an update, one core busy / none", paired(alone, beside), "",
            "update_share_beside_neighbour", ">= 0.5", shown=True,
        ),
        Row(
            "neighbour", "the same, where cores share every operation", paired(shared_alone, shared_beside), shown=True
        ),
        Row(
            "neighbour", "time of an update, a thread a microbatch / shared operations, none busy",
            paired(alone, shared_alone), shown=True,
        ),
        Row(
            "neighbour", "time of an update, a thread a microbatch / shared operations, one busy",
            paired(beside, shared_beside), shown=True,
        ),
    ]  # fmt: skip


def _both(child: Child) -> tuple[Turn, Turn]:
    """A turn without a neighbour, and one with."""
    alone = child.go()
    with busy_core():
        return alone, child.go()


def _seconds(turn: Turn) -> float:
    return turn["seconds"]


@contextmanager
def busy_core() -> Iterator[None]:
    """Another process has as much to do as one core can, inside the block."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.5)
        yield
    finally:
        process.kill()
        process.wait()
