"""Rollouts that run one step ahead of the learner against rollouts that wait for it: time of a step, and what is learned.

Learner and engine each get a node with one core, two raylets on this machine, so that neither waits for the other's
device. Runs with and without lag take turns, a pair for each seed; a pair has the same problems and the same adapter to
begin with.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean, median

from ray.cluster_utils import Cluster

from bench.compare.our_run import Step, open_run
from bench.compare.table import Row, paired
from bench.compare.work import load_work

STEPS = 9
WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took, and the held-out accuracy it ended with."""

    steps: Sequence[Step]
    accuracy: float

    @property
    def seconds(self) -> float:
        """Of a step when all is warm; the last has no rollout beside it."""
        return median(step.seconds for step in self.steps[WARM_UP:-1])

    def phase(self, name: str) -> float:
        """Seconds of a phase in such a step."""
        return median(step.metrics[f"time/{name}_s"] for step in self.steps[WARM_UP:-1])


def run(repeats: int) -> list[Row]:
    with _two_nodes():
        pairs = [(_train(seed, lag=0), _train(seed, lag=1)) for seed in range(repeats)]
    waits, ahead = [one for one, _ in pairs], [other for _, other in pairs]
    hidden = [(one.seconds - other.seconds) / min(one.phase("sample"), one.phase("update")) for one, other in pairs]
    return [
        Row("lag", "a step, rollouts of the learner's policy", median(r.seconds for r in waits), "s"),
        Row("lag", "of which sample, on one core", median(r.phase("sample") for r in waits), "s"),
        Row("lag", "of which update, on another", median(r.phase("update") for r in waits), "s"),
        Row("lag", "a step, rollouts one step ahead", median(r.seconds for r in ahead), "s"),
        Row("lag", "of which the learner waits for rollouts", median(r.phase("wait") for r in ahead), "s"),
        Row("lag", "step, ahead / not", paired([r.seconds for r in ahead], [r.seconds for r in waits])),
        Row("lag", "share of the shorter phase that is hidden", median(hidden), "", "lag_hides_of_shorter_phase"),
        *_accuracies("not ahead", waits, "accuracy_at_lag_0"),
        *_accuracies("ahead", ahead, "accuracy_at_lag_1"),
    ]


def _accuracies(name: str, runs: Sequence[Run], key: str) -> list[Row]:
    what = f"held-out accuracy after {STEPS} steps, {name}"
    return [
        Row("lag", f"{what}, mean of {len(runs)} seeds", fmean(r.accuracy for r in runs), "", key),
        Row("lag", f"{what}, lowest", min(r.accuracy for r in runs)),
        Row("lag", f"{what}, highest", max(r.accuracy for r in runs)),
    ]


def _train(seed: int, lag: int) -> Run:
    return asyncio.run(_steps(seed, lag))


async def _steps(seed: int, lag: int) -> Run:
    work = load_work(f"num_steps={STEPS}", f"seed={seed}", f"max_off_policy_steps={lag}")
    async with open_run(work) as ours:
        steps = [await ours.step() for _ in range(work.config.num_steps)]
        return Run(steps, await ours.finish())


@contextmanager
def _two_nodes() -> Iterator[None]:
    """A cluster of two nodes with a core each, which runs join through `RAY_ADDRESS`."""
    node = {"num_cpus": 1, "object_store_memory": 256 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        cluster.add_node(**node)
        os.environ["RAY_ADDRESS"] = cluster.address
        yield
    finally:
        os.environ.pop("RAY_ADDRESS", None)
        cluster.shutdown()
