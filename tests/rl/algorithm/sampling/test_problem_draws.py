"""Problems that were always or never solved come less often, and no seed is used twice whatever changes on a resume."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.fakes import RIGHT, WRONG, problem
from helpers.loop import SMALL, Bomb, EagerGrader, Killed, configuration, run, timeless
from hypothesis import given
from hypothesis import strategies as st

from lora.peft.files import read_peft
from rl.algorithm.sampling.draws import Draws
from rl.algorithm.sampling.prefetch import Rollout
from rl.config import MAX_COMPLETIONS, RunConfig, replaced
from rl.data import PassRatePools, ProblemStream
from rl.run import checkpoint
from rl.run.directory import RunDirectory
from rl.types import Group

PROBLEMS = [problem(str(i)) for i in range(40)]
POOLED = replaced(configuration(), curriculum={"no_signal_weight": 0.1})


def groups(right_of_4: int, ids: Sequence[int]) -> list[Group]:
    return [Group(PROBLEMS[i], [1], [], [RIGHT] * right_of_4 + [WRONG] * (4 - right_of_4)) for i in ids]


def seen(*groups: Group) -> Rollout:
    return Rollout(groups, {})


def ids_of(draws: Draws, numbers: Sequence[int]) -> list[str]:
    return [question.problem.id for question in draws.questions(numbers, lambda _: [1])]


# --- pools ---


def test_what_is_always_or_never_solved_is_drawn_less() -> None:
    draws = Draws(POOLED, PROBLEMS)
    assert ids_of(draws, range(80)) == ids_of(Draws(configuration(), PROBLEMS), range(80)), "nothing is known yet"
    metrics = draws.observe(seen(*groups(4, range(10)), *groups(0, range(10, 20)), *groups(1, range(20, 30))))
    assert metrics == {"curriculum/solved": 10, "curriculum/unsolved": 10}
    counts = Counter(int(id) < 20 for id in ids_of(draws, range(4000)))
    # A draw that is passed over goes to any problem: with half of them closed, a tenth as likely as the open ones.
    assert counts[True] / 4000 == pytest.approx(0.1 / 1.1, abs=0.02)
    draws.observe(seen(*groups(2, range(20))))
    assert ids_of(draws, range(80)) == ids_of(Draws(POOLED, PROBLEMS), range(80)), "they teach again"


def test_a_source_whose_problems_are_all_solved_keeps_its_share() -> None:
    by_source = {"a": PROBLEMS[:10], "b": PROBLEMS[10:]}
    stream, pools = ProblemStream(by_source, {"a": 1.0, "b": 1.0}, 0), PassRatePools(0.01, 0)
    for each in PROBLEMS[:10]:
        pools.observe(each, 1.0)
    drawn = stream.draw(range(512), pools)
    assert sum(int(p.id) < 10 for p in drawn) == pytest.approx(256, abs=2)


async def test_a_run_with_pools_resumes_bit_for_bit(tmp_path: Path) -> None:
    config = configuration(*SMALL, "num_steps=5", "evaluate.every=5", "curriculum.no_signal_weight=0.05")
    whole = await run(config, tmp_path / "whole", EagerGrader())
    with pytest.raises(Killed):
        await run(config, tmp_path / "stopped", EagerGrader(), sinks=[Bomb(3)])
    resumed = await run(config, tmp_path / "stopped", EagerGrader(), resume=True)
    assert read_peft(resumed.adapters / "last") == read_peft(whole.adapters / "last")
    assert pool_sizes(resumed) == pool_sizes(whole)
    assert pool_sizes(whole)[-1] > 0
    newest = checkpoint.newest(whole.checkpoints)
    assert newest is not None
    assert len(newest.drawn["unsolved"]) + len(newest.drawn["solved"]) == pool_sizes(whole)[-1]


def pool_sizes(directory: RunDirectory) -> list[float]:
    rows = [row for row in timeless(directory) if "curriculum/solved" in row]
    return [row["curriculum/solved"] + row["curriculum/unsolved"] for row in rows]


# --- seeds ---


def seeds_of(config: RunConfig, draws: Draws, steps: range) -> set[int]:
    per_step = (1 + config.curriculum.refill_rounds) * config.problems_per_step
    numbers = range(steps.start * per_step, steps.stop * per_step)
    starts = [question.seed for question in draws.questions(numbers, lambda _: [1])]
    return {(start + i) % MAX_COMPLETIONS for start in starts for i in range(config.sampling.group_size)}


sizes = st.fixed_dictionaries(
    {
        "problems_per_step": st.integers(1, 6),
        "curriculum": st.fixed_dictionaries({"refill_rounds": st.integers(0, 4)}),
        "sampling": st.fixed_dictionaries({"group_size": st.integers(2, 5)}),
    }
)


@given(changes=st.lists(sizes, min_size=2, max_size=4))
def test_no_two_samples_of_a_run_share_a_seed_whatever_changes_when_it_resumes(changes: list[dict[str, Any]]) -> None:
    used: set[int] = set()
    state: dict[str, Any] = {}
    for index, change in enumerate(changes):
        config = replaced(configuration(), **change)
        steps = range(3 * index, 3 * index + 3)
        draws = Draws(config, PROBLEMS, steps.start, (), state)
        seeds = seeds_of(config, draws, steps)
        assert used.isdisjoint(seeds)
        assert len(seeds) == 3 * config.problems_per_step * (1 + config.curriculum.refill_rounds) * (
            config.sampling.group_size
        )
        used |= seeds
        state = draws.state(steps.stop, ())


def test_settings_that_stay_keep_their_seeds() -> None:
    config = replaced(configuration(), curriculum={"refill_rounds": 2})
    state = Draws(config, PROBLEMS).state(7, [3, 400])
    again = Draws(config, PROBLEMS, 7, [3, 400], state)
    fresh = Draws(config, PROBLEMS)
    assert seeds_of(config, again, range(7, 9)) == seeds_of(config, fresh, range(7, 9))
