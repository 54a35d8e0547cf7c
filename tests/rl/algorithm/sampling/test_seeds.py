"""Random streams: no two completions of a run draw from the same one."""

from collections.abc import Iterable

import pytest
import torch
from helpers.fakes import SameTextGrader, ScriptedEngine, problem
from hypothesis import given
from hypothesis import strategies as st

from lora.types import Adapter
from rl.algorithm.evaluation.held_out import evaluate
from rl.algorithm.sampling.seeds import evaluation_seeds, group_seeds
from rl.config import RunConfig
from rl.settings.toml import load_config

ALL_BITS = 2**32
"""Bits that torch's generators on a CPU keep of a seed."""

shapes = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "num_steps": st.integers(1, 40),
        "problems_per_step": st.integers(1, 20),
        "sampling": st.fixed_dictionaries({"group_size": st.integers(2, 9)}),
        "evaluate": st.fixed_dictionaries(
            {"num_problems": st.integers(1, 40), "samples_per_problem": st.integers(1, 9)}
        ),
    }
)


def training_seeds(config: RunConfig, step: int) -> list[int]:
    """The seeds of a step's groups, as long as steps go in order."""
    return group_seeds(config, range(step * config.problems_per_step, (step + 1) * config.problems_per_step))


def streams(seeds: Iterable[int], samples: int) -> list[int]:
    """One a completion: vLLM adds a completion's index to its prompt's seed."""
    return [(seed + index) % ALL_BITS for seed in seeds for index in range(samples)]


def all_streams(config: RunConfig, steps: Iterable[int]) -> list[int]:
    """Return the streams of an evaluation, and of these steps."""
    evaluate = config.evaluate
    found = streams(evaluation_seeds(config, evaluate.num_problems), evaluate.samples_per_problem)
    for step in steps:
        found += streams(training_seeds(config, step), config.sampling.group_size)
    return found


@given(table=shapes)
def test_no_two_completions_of_a_run_share_a_stream(table: dict[str, object]) -> None:
    config = RunConfig.model_validate(table)
    found = all_streams(config, range(config.num_steps))
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_the_largest_run_shares_none_between_its_ends(seed: int) -> None:
    """2^32 completions in all: the first ones, the last ones and the evaluation's, which has half of them."""
    config = load_config(
        None,
        [
            f"seed={seed}", f"num_steps={2**16}", f"problems_per_step={2**3}", f"sampling.group_size={2**12}",
            f"evaluate.num_problems={2**19}", f"evaluate.samples_per_problem={2**12}",
        ],
    )  # fmt: skip
    starts = [seed for step in (0, 1, 2**15, 2**16 - 1) for seed in training_seeds(config, step)]
    taken = [(start % ALL_BITS, config.sampling.group_size) for start in starts]
    evaluated = evaluation_seeds(config, 2**19)
    taken += [(start % ALL_BITS, 2**12) for start in (*evaluated[:3], *evaluated[-3:])]
    taken.sort()
    for (start, length), (following, _) in zip(taken, [*taken[1:], (taken[0][0] + ALL_BITS, 0)], strict=True):
        assert start + length <= following


@given(seed=st.integers(0, 2**32 - 1), step=st.integers(0, 99))
def test_every_stream_is_a_seed_that_engines_take(seed: int, step: int) -> None:
    config = RunConfig(seed=seed)
    for first in (*training_seeds(config, step), *evaluation_seeds(config, 3)):
        assert 0 < first < first + config.sampling.group_size < 2**62


def test_runs_with_other_seeds_have_other_streams() -> None:
    one, other = (set(all_streams(RunConfig(seed=seed), range(100))) for seed in (0, 1))
    assert one.isdisjoint(other)


def test_what_is_left_of_a_seed_on_a_cpu() -> None:
    """The reason for counting streams within 32 bits."""
    first, second = (torch.rand(4, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5 + ALL_BITS))
    assert torch.equal(first, second)


async def test_an_evaluation_draws_every_sample_from_a_stream_of_its_own() -> None:
    config = load_config(
        None, ["evaluate.samples_per_problem=5", "evaluate.temperature=1.0", "evaluate.num_problems=6"]
    )
    engine = ScriptedEngine(["no"])
    problems = [problem(str(i)) for i in range(6)]
    await evaluate(config, problems, Adapter("run", 0, b""), engine, SameTextGrader(), lambda _: [1])
    ((_, sampling, seeds, _),) = engine.calls
    assert sampling.group_size == 5
    found = streams(seeds, 5) + streams(training_seeds(config, 0), config.sampling.group_size)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("seed", [-1, 2**32, 10**30])
def test_a_seed_that_no_generator_takes_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=r"seed must be at least 0 and below 4294967296, and is"):
        load_config(None, [f"seed={seed}"])


@pytest.mark.parametrize(
    "overrides",
    [
        ["num_steps=10000000", "sampling.group_size=64"],
        ["problems_per_step=65536", "num_steps=10000"],
        ["sampling.group_size=4096", "num_steps=100000"],
        ["evaluate.num_problems=1000000", "evaluate.samples_per_problem=4096", "num_steps=2000000"],
    ],
)
def test_a_run_of_more_completions_than_there_are_streams_is_refused(overrides: list[str]) -> None:
    with pytest.raises(ValueError, match=r"4,294,967,296 .*: lower num_steps"):
        load_config(None, overrides)
