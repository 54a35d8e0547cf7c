"""Accuracy on held-out problems."""

from itertools import combinations
from statistics import fmean

import pytest
from helpers.fakes import CRASHED, RIGHT, WRONG, SameTextGrader, ScriptedEngine, problem

from lora.types import Adapter
from rl.algorithm.evaluation.held_out import evaluate, pass_at_k, summarise
from rl.config import EvaluateConfig, RunConfig, replaced
from rl.data import sample_held_out
from rl.types import Group
from rollout.config import SamplingConfig
from rollout.types import Completion

CASES = [(n, c, k) for n in range(1, 8) for c in range(n + 1) for k in range(1, n + 1)]


@pytest.mark.parametrize(("samples", "correct", "k"), CASES)
def test_pass_at_k_is_the_share_of_all_ways_to_pick_k_samples(samples: int, correct: int, k: int) -> None:
    picks = list(combinations([True] * correct + [False] * (samples - correct), k))
    assert pass_at_k(samples, correct, k) == pytest.approx(sum(any(pick) for pick in picks) / len(picks))


def test_accuracy_is_of_completions_and_pass_at_k_of_problems() -> None:
    completions = [Completion((3,), (0.0,), "", "stop", 0)] * 2
    groups = [Group(problem(), [1], completions, list(rewards)) for rewards in ((RIGHT, WRONG), (CRASHED, WRONG))]
    measured = summarise(groups)
    assert measured.metrics() == {
        "eval/accuracy": 0.25,
        "eval/accuracy_low": 0.0,
        "eval/accuracy_high": pytest.approx(0.25 + 1.959964 * 0.25),
        "eval/pass_at_k": 0.5,
        "eval/reward": 0.25,
    }
    assert measured.groups == groups


def graded(*right_of: tuple[int, int]) -> list[Group]:
    """A group for each (right, samples)."""
    return [
        Group(
            problem(str(i)),
            [1],
            [Completion((3,), (0.0,), "", "stop", 0)] * samples,
            [RIGHT] * right + [WRONG] * (samples - right),
        )
        for i, (right, samples) in enumerate(right_of)
    ]


def test_every_k_that_is_asked_for_is_a_mean_over_problems_of_all_ways_to_pick_k_samples() -> None:
    right = (0, 1, 3, 5, 2, 0)
    measured = summarise(graded(*((c, 5) for c in right)), (1, 2, 3, 5))
    for k, estimate in measured.pass_at.items():
        shares = [[any(pick) for pick in combinations([True] * c + [False] * (5 - c), k)] for c in right]
        assert estimate.value == pytest.approx(fmean(fmean(share) for share in shares))
        assert 0 <= estimate.low < estimate.value < estimate.high <= 1
        assert measured.metrics()[f"eval/pass_at/{k}"] == estimate.value
    assert list(measured.pass_at) == [1, 2, 3, 5]
    assert measured.pass_at[1] == measured.average
    assert measured.accuracy == pytest.approx(measured.average.value)
    assert measured.pass_at_k == measured.pass_at[5].value
    assert list(measured.estimates()) == ["avg@5", "pass@1", "pass@2", "pass@3", "pass@5"]


def test_more_samples_of_the_same_problems_that_say_the_same_do_not_narrow_the_interval() -> None:
    once = summarise(graded((1, 1), (0, 1), (0, 1), (1, 1), (1, 1))).average
    often = summarise(graded((16, 16), (0, 16), (0, 16), (16, 16), (16, 16))).average
    assert once == often


async def test_an_evaluation_asks_the_same_of_every_policy() -> None:
    """The same problems and seeds whatever the version, and the configured samples and temperature."""
    engine = ScriptedEngine(["yes", "no", "no"])
    problems = [problem(str(i), "yes") for i in range(5)]
    config = RunConfig(
        sampling=SamplingConfig(group_size=8, max_tokens=5, stop=("!",)),
        evaluate=EvaluateConfig(num_problems=3, samples_per_problem=3, temperature=0.25),
    )
    for version in (0, 9):
        adapter = Adapter("run", version, b"")
        measured = await evaluate(config, problems, adapter, engine, SameTextGrader(), lambda p: [int(p.id)])
        assert measured.accuracy == pytest.approx(1 / 3)
        assert measured.pass_at_k == 1
    first, second = engine.calls
    assert first[:3] == second[:3]
    prompts, sampling, seeds, _ = first
    assert prompts == [[int(problem.id)] for problem in sample_held_out(problems, 3, config.seed)]
    assert sampling == SamplingConfig(group_size=3, max_tokens=5, stop=("!",), temperature=0.25)
    assert len(set(seeds)) == 3
    assert [call[3] for call in engine.calls] == [0, 9]


async def test_an_evaluation_draws_from_what_its_own_settings_leave() -> None:
    engine = ScriptedEngine(["no"])
    config = RunConfig(
        sampling=SamplingConfig(max_tokens=5, top_p=0.5, top_k=7, min_p=0.2, stop_token_ids=(4,), ignore_eos=True),
        evaluate=EvaluateConfig(num_problems=1, temperature=0.6, top_p=0.9, top_k=20, min_p=0.05),
    )
    await evaluate(config, [problem()], Adapter("run", 0, b""), engine, SameTextGrader(), lambda _: [1])
    assert engine.calls[0][1] == SamplingConfig(
        group_size=1,
        max_tokens=5,
        temperature=0.6,
        top_p=0.9,
        top_k=20,
        min_p=0.05,
        stop_token_ids=(4,),
        ignore_eos=True,
    )


@pytest.mark.parametrize(("own", "expected"), [(None, 5), (3, 3), (40, 40)])
async def test_an_answer_may_be_as_long_as_an_evaluation_says(own: int | None, expected: int) -> None:
    engine = ScriptedEngine(["no"])
    config = RunConfig(sampling=SamplingConfig(max_tokens=5), evaluate=EvaluateConfig(num_problems=1, max_tokens=own))
    await evaluate(config, [problem()], Adapter("run", 0, b""), engine, SameTextGrader(), lambda _: [1])
    assert engine.calls[0][1].max_tokens == expected


async def test_an_evaluation_measures_the_ks_of_its_configuration() -> None:
    engine = ScriptedEngine(["1", "no", "no"])
    config = RunConfig(evaluate=EvaluateConfig(num_problems=1, samples_per_problem=3, pass_at=(1, 2), temperature=1.0))
    measured = await evaluate(config, [problem()], Adapter("run", 0, b""), engine, SameTextGrader(), lambda _: [1])
    assert {k: estimate.value for k, estimate in measured.pass_at.items()} == pytest.approx({1: 1 / 3, 2: 2 / 3})


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"pass_at": (1, 8), "samples_per_problem": 4, "temperature": 1.0}, "raise samples_per_problem to 8"),
        ({"pass_at": (2,), "samples_per_problem": 4}, "set evaluate.temperature"),
        ({"pass_at": (2,), "samples_per_problem": 4, "temperature": 1.0, "top_k": 1}, "set evaluate.top_k to 0"),
        ({"pass_at": (0,)}, "greater than or equal to 1"),
        ({"max_tokens": 512}, "evaluate.max_tokens must be below model.max_length"),
    ],
)
def test_what_cannot_be_measured_is_refused(settings: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        replaced(RunConfig(), model={"max_length": 512}, evaluate=settings)
    assert replaced(RunConfig(), evaluate={"pass_at": (1,)}).evaluate.pass_at == (1,)
