"""The loop on real parts, where steps learn from the groups finished first: killed, with a worker that dies, by twos."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.fakes import CRASHED
from helpers.loop import SMALL, EagerGrader, configuration, parts_of, split_of

from lora.types import Adapter
from rewards.types import Grader, Problem, Reward
from rl.config import RunConfig, replaced
from rl.data import draw_numbers
from rl.run import checkpoint
from rl.run.directory import RunDirectory
from rl.run.journal import FileJournal
from rl.run.jsonl import read_samples
from rl.run.sinks import Ended, Sink, Sinks
from rl.train import train
from rollout.config import SamplingConfig
from rollout.pool.engine_pool import EnginePool
from rollout.torch.engine import TorchEngine
from rollout.types import Completion, Engine, EngineDied, Place

IN_FLIGHT = (*SMALL, "steps_in_flight=1.5", "max_off_policy_steps=3", "sampling.group_size=4")


class Killed(BaseException):
    """Stands for the end of the process."""


class Bomb(Sink):
    """Ends the run when a step is done, as a kill would: nothing after it happens."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step(self, step: int, *_: object) -> None:
        if step == self._step:
            raise Killed

    def on_eval(self, *_: object) -> None:
        """Goes on."""

    def close(self, ended: Ended) -> None:
        """Nothing to release."""


class Straggling(TorchEngine):
    """Hands over completions in any order and at any time; dies, if it is to, after `answers` of them."""

    answers: int | None = None

    async def stream_completions(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
    ) -> AsyncGenerator[tuple[Place, Completion]]:
        rng = random.Random(seeds[0])
        written = [each async for each in super().stream_completions(prompts, adapter, sampling, seeds=seeds)]
        for each in rng.sample(written, len(written)):
            for _ in range(int(rng.paretovariate(0.7)) % 200):
                await asyncio.sleep(0)
            if self.answers is not None:
                self.answers -= 1
                if self.answers < 0:
                    raise EngineDied("it died")
            yield each


async def run(
    config: RunConfig,
    path: Path,
    engine: Engine,
    *,
    resume: bool = False,
    sinks: Sequence[Sink] = (),
    grader: Grader | None = None,
) -> RunDirectory:
    directory = RunDirectory.open(path) if (path / "config.toml").exists() else RunDirectory.create(path, config)
    parts = replace(parts_of(config, grader or EagerGrader()), engine=engine)
    await train(config, split_of(config), parts, FileJournal(directory, Sinks(sinks), resume=resume))
    return directory


def straggling(config: RunConfig) -> Straggling:
    return Straggling(config.model, config.lora)


def check_all_learned_from_once(config: RunConfig, directory: RunDirectory) -> None:
    """Every problem of the run stands in the samples as often as it has completions, by a policy that is not too old."""
    count = config.num_steps * config.problems_per_step
    drawn = draw_numbers(split_of(config).train, range(count), config.seed)
    rows = [row for row in read_samples(directory.samples_file) if row["split"] == "train"]
    assert Counter(row["problem"] for row in rows) == Counter(
        {problem.id: config.sampling.group_size for problem in drawn}
    )
    lags = [row["policy/version_lag"] for row in directory.metrics() if "policy/version_lag" in row]
    assert len(lags) == config.num_steps
    assert max(lags) <= (config.max_off_policy_steps or 0)
    assert min(lags) >= 0


async def test_it_learns_from_every_problem_once_and_from_no_policy_that_is_too_old(tmp_path: Path) -> None:
    config = configuration(*IN_FLIGHT, "learner.lr=0.01", "num_steps=8", "evaluate.every=8")
    directory = await run(config, tmp_path / "run", straggling(config))
    check_all_learned_from_once(config, directory)
    steps = directory.metrics()
    assert steps[-2]["reward/mean"] > steps[0]["reward/mean"] + 0.3
    assert {"time/wait_s", "time/sample_s", "throughput/sample_tokens_per_s"} <= steps[3].keys()
    assert max(row["policy/version_lag"] for row in steps[:-1]) > 1, "a straggler went into a later step"


@pytest.mark.parametrize("killed_at", [0, 3])
async def test_a_run_killed_and_resumed_loses_no_problem_and_learns_from_none_twice(
    tmp_path: Path, killed_at: int
) -> None:
    config = configuration(*IN_FLIGHT, "checkpoint_every=2", "evaluate.every=6")
    with pytest.raises(Killed):
        await run(config, tmp_path / "run", straggling(config), sinks=[Bomb(killed_at)])
    newest = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert (newest is None) == (killed_at == 0)
    assert newest is None or len(newest.unlearned) == 4, "half a step's problems had been begun"
    directory = await run(config, tmp_path / "run", straggling(config), resume=True)
    assert [row["step"] for row in directory.metrics()] == list(range(7))
    check_all_learned_from_once(config, directory)


async def test_a_run_with_problems_in_flight_does_not_go_on_in_the_order_of_draws(tmp_path: Path) -> None:
    config = configuration(*IN_FLIGHT, "evaluate.every=6")
    with pytest.raises(Killed):
        await run(config, tmp_path / "run", straggling(config), sinks=[Bomb(2)])
    directory = RunDirectory.open(tmp_path / "run")
    with pytest.raises(ValueError, match="cannot go on without steps_in_flight: 4 of its problems were begun"):
        directory.reconfigure(replaced(config, steps_in_flight=None))
    none_ahead = replaced(config, steps_in_flight=1.0)
    directory.reconfigure(none_ahead)
    check_all_learned_from_once(none_ahead, await run(none_ahead, tmp_path / "run", straggling(config), resume=True))
    directory.reconfigure(replaced(config, steps_in_flight=None))


async def test_two_runs_share_workers_of_which_one_dies(tmp_path: Path) -> None:
    first = configuration(*IN_FLIGHT, "evaluate.every=6")
    second = replaced(first, seed=1, steps_in_flight=2.0)
    dying = straggling(first)
    dying.answers = 70
    pool = EnginePool([dying, straggling(first)])
    directories = await asyncio.gather(run(first, tmp_path / "1", pool), run(second, tmp_path / "2", pool))
    assert len(pool.replicas()) == 1
    for config, directory in zip((first, second), directories, strict=True):
        check_all_learned_from_once(config, directory)


async def test_failed_grades_are_counted_over_the_groups_of_a_step(tmp_path: Path) -> None:
    counted: list[int] = []

    class Failing(EagerGrader):
        async def grade_part(self, problem: Problem, texts: Sequence[str], _: object) -> list[Reward]:
            return [CRASHED] * len(texts)

        def check(self, rewards_P_G: Sequence[Sequence[Reward]], problems: Sequence[Problem] = ()) -> None:
            counted.append(sum(not reward.is_valid for group in rewards_P_G for reward in group))
            if len(counted) == 3:
                raise ValueError("too many failed")

    config = configuration(*IN_FLIGHT, "evaluate.every=6")
    with pytest.raises(ValueError, match="too many failed"):
        await run(config, tmp_path / "run", straggling(config), grader=Failing())
    assert counted == [8, 32, 32], "an evaluation's, and those of two steps"
    assert len(asyncio.all_tasks()) == 1
