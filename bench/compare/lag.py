"""Rollouts that run one step ahead of the learner against rollouts that wait for it: time of a step, and what is learned.

Learner and engine each get a node with one core, two raylets on this machine, so that neither waits for the other's
device. Runs with and without lag take turns, a pair for each seed; a pair has the same problems and the same adapter to
begin with. Steps differ in what there is to learn from, so the run that is ahead is held to what its own steps would take
one phase after the other: the other run's seconds of sampling, and its seconds of updating for each token.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean, median

from ray.cluster_utils import Cluster

from bench.compare.our_run import Step, open_run
from bench.compare.table import Row
from bench.compare.work import load_work

STEPS = 10
WARM_UP = 3
"""The first two steps are both sampled by the first policy, and together."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took, and the held-out accuracy it ended with."""

    steps: Sequence[Step]
    accuracy: float

    @property
    def counted(self) -> Sequence[Step]:
        """All is warm, and another step can be sampled beside it."""
        return self.steps[WARM_UP:-1]

    @property
    def seconds(self) -> float:
        """Of a step, on average."""
        return fmean(step.seconds for step in self.counted)

    @property
    def update_tokens(self) -> float:
        return fmean(step.metrics["update/tokens"] for step in self.counted)

    def phase(self, name: str) -> float:
        """Seconds of a phase in a step, on average."""
        return fmean(step.metrics[f"time/{name}_s"] for step in self.counted)


@dataclass(frozen=True, slots=True)
class Pair:
    """A run that waits for its rollouts, and one whose rollouts are a step ahead."""

    waits: Run
    ahead: Run

    def in_turn(self, step: Step) -> tuple[float, float]:
        """Seconds of sampling and of updating that a step of the run ahead would take, one after the other."""
        per_token = self.waits.phase("update") / self.waits.update_tokens
        return self.waits.phase("sample"), per_token * step.metrics["update/tokens"]

    @property
    def hidden(self) -> float:
        """Share of the shorter phase's seconds that the run ahead did not take."""
        rest = self.waits.seconds - self.waits.phase("sample") - self.waits.phase("update")
        phases = [self.in_turn(step) for step in self.ahead.counted]
        saved = sum(map(sum, phases)) + rest * len(phases) - self.ahead.seconds * len(phases)
        return saved / sum(map(min, phases))

    @property
    def share(self) -> float:
        """Of a step's seconds that a step of the run ahead takes, both having as many tokens to learn from."""
        rest = self.waits.seconds - self.waits.phase("sample") - self.waits.phase("update")
        return self.ahead.seconds / (rest + fmean(sum(self.in_turn(step)) for step in self.ahead.counted))


def run(repeats: int) -> list[Row]:
    with _two_nodes():
        pairs = [Pair(_train(seed, lag=0), _train(seed, lag=1)) for seed in range(repeats)]
    waits, ahead = [pair.waits for pair in pairs], [pair.ahead for pair in pairs]
    return [
        Row("lag", "a step, rollouts of the learner's policy", median(r.seconds for r in waits), "s"),
        Row("lag", "of which sample, on one core", median(r.phase("sample") for r in waits), "s"),
        Row("lag", "of which update, on another", median(r.phase("update") for r in waits), "s"),
        Row("lag", "tokens of an update", median(r.update_tokens for r in waits), "tokens"),
        Row("lag", "a step, rollouts one step ahead", median(r.seconds for r in ahead), "s"),
        Row("lag", "of which the learner waits for rollouts", median(r.phase("wait") for r in ahead), "s"),
        Row("lag", "of which update", median(r.phase("update") for r in ahead), "s"),
        Row("lag", "tokens of an update, ahead", median(r.update_tokens for r in ahead), "tokens"),
        Row("lag", "step, ahead / not, for the same tokens", median(pair.share for pair in pairs), shown=True),
        Row(
            "lag", "share of the shorter phase that is hidden", median(pair.hidden for pair in pairs), "",
            "lag_hides_of_shorter_phase", shown=True,
        ),
        *_accuracies("not ahead", waits, "accuracy_at_lag_0"),
        *_accuracies("ahead", ahead, "accuracy_at_lag_1"),
    ]  # fmt: skip


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
    work = load_work(
        f"num_steps={STEPS}", f"seed={seed}", f"max_off_policy_steps={lag}", "liveness.every=1000"
    )  # it would be a third phase
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
