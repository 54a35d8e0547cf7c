"""Groups that teach nothing are replaced within their step: by which problems, how many, and what is learned from."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.fakes import CRASHED, RIGHT, WRONG, made_groups
from helpers.loop import SMALL, Bomb, EagerGrader, Killed, configuration, run, timeless

from lora.peft.files import read_peft
from rl.algorithm.advantage.overlong import group_advantages
from rl.algorithm.sampling.prefetch import Rollout
from rl.algorithm.sampling.refill import learned_groups, refill_metrics, round_numbers, sample_rounds
from rl.algorithm.sampling.seeds import group_seeds
from rl.config import RunConfig, replaced
from rl.run.directory import RunDirectory
from rl.types import Group

CONFIG = replaced(RunConfig(), problems_per_step=4, curriculum={"refill_rounds": 2})
GROUP = made_groups(0, groups=1)[0]


def group(teaches: bool) -> Group:
    return replace(GROUP, rewards=[RIGHT, WRONG, RIGHT, WRONG] if teaches else [WRONG] * 4)


async def drawn(config: RunConfig, step: int, rounds: Sequence[Sequence[bool]]) -> tuple[Rollout, list[list[int]]]:
    """Return a step's rollout and the numbers it asked for, round by round, where each round's groups teach or not."""
    asked: list[list[int]] = []

    async def begin(numbers: Sequence[int]) -> Rollout:
        teach = rounds[len(asked)]
        asked.append(list(numbers))
        return Rollout([group(teaches) for teaches in teach], {"sample": 1.0, "grade": 0.25})

    return await sample_rounds(config, step, begin), asked


async def test_as_many_problems_are_drawn_anew_as_taught_nothing() -> None:
    rollout, asked = await drawn(CONFIG, 5, [[True, False, False, False], [True, False, True], [True]])
    assert asked == [[60, 61, 62, 63], [64, 65, 66], [68]]
    assert len(rollout.groups) == 8
    assert rollout.seconds == {"sample": 3.0, "grade": 0.75}
    assert len(learned_groups(rollout.groups, CONFIG)) == 4
    assert refill_metrics(rollout.groups, CONFIG) == {"rollout/drawn": 8, "rollout/kept": 4, "rollout/refilled": 4}


async def test_it_ends_when_the_step_is_full_or_its_rounds_are_over() -> None:
    full, asked = await drawn(CONFIG, 0, [[True] * 4])
    assert asked == [[0, 1, 2, 3]]
    assert len(full.groups) == 4
    short, asked = await drawn(CONFIG, 0, [[False] * 4, [False] * 4, [True, False, False, False]])
    assert asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert learned_groups(short.groups, CONFIG) == [group(True)]
    assert refill_metrics(short.groups, CONFIG)["rollout/kept"] == 1


async def test_without_rounds_a_step_learns_from_what_it_drew_and_counts_nothing() -> None:
    config = replaced(CONFIG, curriculum={"refill_rounds": 0})
    rollout, asked = await drawn(config, 5, [[False, True, False, False]])
    assert asked == [[20, 21, 22, 23]]
    assert learned_groups(rollout.groups, config) == rollout.groups
    assert refill_metrics(rollout.groups, config) == {}


def test_a_group_teaches_as_the_advantages_say() -> None:
    """A grade that crashed is no difference, nor is one between completions that are masked."""
    crashed = replace(GROUP, rewards=[RIGHT, CRASHED, RIGHT, CRASHED])
    cut = replace(group(True), completions=[replace(c, finish_reason="length") for c in GROUP.completions])
    assert learned_groups([crashed], CONFIG) == []
    assert learned_groups([cut], CONFIG) == [cut]
    assert learned_groups([cut], replaced(CONFIG, learner={"truncated": "mask"})) == []


def test_completions_that_are_wrong_alike_teach_nothing_whatever_their_lengths() -> None:
    config = replaced(CONFIG, learner={"overlong_buffer": 255}, sampling={"max_tokens": 256})
    alike = group(False)
    assert any(group_advantages(alike, config)), "the penalty tells them apart"
    assert learned_groups([alike, group(True)], config) == [group(True)]


def test_no_two_rounds_share_a_problem_or_a_seed() -> None:
    numbers = [n for step in range(20) for refill in range(3) for n in round_numbers(CONFIG, step, refill, 4)]
    assert numbers == list(range(240))
    starts = group_seeds(CONFIG, numbers)
    seeds = {(start + i) % 2**32 for start in starts for i in range(CONFIG.sampling.group_size)}
    assert len(seeds) == 240 * CONFIG.sampling.group_size
    assert replaced(CONFIG, num_steps=20).num_completions - 256 == len(seeds)


def test_refilling_does_not_go_together_with_steps_in_flight() -> None:
    with pytest.raises(ValueError, match="with steps_in_flight a step takes what is finished: leave one of the two"):
        replaced(CONFIG, steps_in_flight=1.5)


def steps(directory: RunDirectory) -> list[dict[str, Any]]:
    """Return the rows of steps that learned, without the liveness check's: a resumed run checks once more."""
    rows = [row for row in timeless(directory) if "rollout/drawn" in row]
    return [{n: v for n, v in row.items() if not n.startswith(("policy/sampler", "policy/distance"))} for row in rows]


async def test_a_run_that_refills_learns_from_full_steps_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    config = configuration(
        *SMALL,
        "num_steps=4",
        "evaluate.every=4",
        "curriculum.refill_rounds=2",
        "learner.lr_schedule=cosine",
        "learner.lr_warmup_steps=2",
    )
    whole = await run(config, tmp_path / "whole", EagerGrader())
    with pytest.raises(Killed):
        await run(config, tmp_path / "stopped", EagerGrader(), sinks=[Bomb(2)])
    resumed = await run(config, tmp_path / "stopped", EagerGrader(), resume=True)
    assert read_peft(resumed.adapters / "last") == read_peft(whole.adapters / "last")
    rows = steps(whole)
    assert steps(resumed) == rows
    assert sum(row["rollout/refilled"] for row in rows) > 0
    for row in rows:
        assert 8 <= row["rollout/drawn"] == 8 + row["rollout/refilled"] <= 24
        taught = round((1 - row["group/no_signal_fraction"]) * row["rollout/drawn"])
        assert row["rollout/kept"] == taught <= 8
        assert row["update/tokens"] <= taught * 4 * config.sampling.max_tokens
    wave = [1 / 3, 2 / 3, *((1 + math.cos(math.pi * k / 2)) / 2 for k in range(2))]
    assert [row["update/lr"] for row in rows] == pytest.approx([config.learner.lr * scale for scale in wave])
