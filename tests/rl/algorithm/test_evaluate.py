"""Accuracy on held-out problems."""

from itertools import combinations

import pytest
from helpers.fakes import CRASHED, RIGHT, WRONG, SameTextGrader, ScriptedEngine, problem

from lora.types import Adapter
from rl.algorithm.evaluate import evaluate, pass_at_k, summarise
from rl.config import EvaluateConfig, RunConfig
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
    assert measured.metrics() == {"eval/accuracy": 0.25, "eval/pass_at_k": 0.5, "eval/reward": 0.25}
    assert measured.groups == groups


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
