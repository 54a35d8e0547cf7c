"""Why a completion ended reaches the default reward, and every custom one that asks for it by name."""

import asyncio
from pathlib import Path

import pytest

from rewards.config import RewardConfig
from rewards.functions.call import score
from rewards.functions.term import load_term, load_terms
from rewards.grading.pool import GraderPool
from rewards.math_answer import math_answer
from rewards.rules import Rules
from rewards.types import Outcome, Problem

PROBLEM = Problem("p", "9 + 9 =", "18")
RIGHT = "The answer is \\boxed{18}."

FUNCTIONS = {
    "def f(problem, completion, finish_reason): return float(finish_reason == 'length')": [1.0, 0.0],
    "def f(problems, completions, finish_reasons): return [float(r == 'length') for r in finish_reasons]": [1.0, 0.0],
    "def f(completions, finish_reason, **columns): return [float(r == 'length') for r in finish_reason]": [1.0, 0.0],
    "def f(completions, finish_reasons): return [float(r == 'length') for r in finish_reasons]": [1.0, 0.0],
    "def f(solution_str, ground_truth, finish_reason=None): return float(finish_reason == 'length')": [1.0, 0.0],
    "def f(solution_strs, ground_truths, finish_reasons): return [float(r == 'length') for r in finish_reasons]": [
        1.0,
        0.0,
    ],
    "async def f(problem, completion, finish_reason): return float(finish_reason == 'length')": [1.0, 0.0],
    "def f(problem, completion, rules): return float(rules.form == 'any')": [1.0, 1.0],
    "def f(problem, completion): return 1.0": [1.0, 1.0],
}


def test_a_completion_that_was_cut_off_scores_as_cut_off() -> None:
    cut = math_answer(PROBLEM, RIGHT, finish_reason="length")
    assert (cut.value, cut.outcome) == (0.0, Outcome.TRUNCATED)
    assert math_answer(PROBLEM, RIGHT, finish_reason="stop").value == 1
    assert math_answer(PROBLEM, RIGHT, finish_reason="length", rules=Rules(truncated="grade")).value == 1


@pytest.mark.parametrize("source", FUNCTIONS)
def test_every_convention_can_ask_for_it(source: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(source)
    term = load_term(f"{tmp_path / 'mine.py'}:f", rules=Rules(form="any"))
    assert score(term, PROBLEM, ["a", "b"], ["length", "stop"]) == FUNCTIONS[source]
    assert len(score(term, PROBLEM, ["a", "b"])) == 2, "without finish reasons, too"


@pytest.mark.parametrize("truncated", ["refuse", "grade"])
def test_it_travels_to_the_graders_with_the_setting(truncated: str) -> None:
    async def graded() -> list[Outcome]:
        pool = GraderPool(RewardConfig.model_validate({"truncated": truncated, "workers": 1}))
        try:
            rewards = await pool.grade([PROBLEM] * 2, [[RIGHT, RIGHT], [RIGHT]], [["stop", "length"], ["stop"]])
        finally:
            await pool.close()
        return [r.outcome for group in rewards for r in group]

    cut = Outcome.TRUNCATED if truncated == "refuse" else Outcome.CORRECT
    assert asyncio.run(graded()) == [Outcome.CORRECT, cut, Outcome.CORRECT]


def test_the_choices_of_the_configuration_reach_the_function() -> None:
    config = RewardConfig.model_validate({"decimals": "exact", "unevaluated": "accept", "form": "any"})
    (term,) = load_terms(config)
    third = Problem("t", "", "1/3")
    assert term.rules == Rules(decimals="exact", unevaluated="accept", form="any")
    assert [
        s.value for s in score(term, third, ["\\boxed{0.333333}", "\\boxed{1/3}"]) if not isinstance(s, float) and s
    ] == [0, 1]
    assert math_answer(third, "\\boxed{0.333333}").value == 1
    assert math_answer(third, "\\boxed{0.3333}").value == 0
    assert math_answer(third, "\\boxed{0.3333}", rules=Rules(decimals=4)).value == 1
