"""The policy's side: its question rewritten by a computer algebra system, and the right answer among others.

``ECHO=500`` takes every question of MATH-500 instead of a sample of them.
"""

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

from rewards.math_answer import math_answer
from rewards.types import Problem

COUNT = int(os.environ.get("ECHO", "6"))


def _attacks() -> ModuleType:
    path = Path(__file__).parents[3] / "bench" / "attacks.py"
    spec = importlib.util.spec_from_file_location("attacks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


attacks = _attacks()
QUESTIONS = list(attacks.questions())[:: max(1, 500 // COUNT)] if attacks.DATA.exists() else []
OWN = [
    Problem("sum", "What is $59 + 37$?", "96"),
    Problem("expand", "Expand $(x+2)(x+3)$.", "x^2+5x+6"),
    Problem("factor", "Factor $x^2+5x+6$.", "(x+2)(x+3)"),
    Problem("root", "Simplify $\\sqrt{48}$.", "4\\sqrt{3}"),
    Problem("complex", "Simplify $\\frac{5}{1-2i}$.", "1+2i"),
    Problem("binomial", "Compute $\\binom{10}{5}$.", "252"),
    Problem("fraction", "Simplify $\\frac{6}{8}$.", "\\frac{3}{4}"),
    Problem("logarithm", "Evaluate $\\log_2 8$.", "3"),
]


@pytest.mark.parametrize("problem", [*OWN, *QUESTIONS], ids=lambda p: p.id)
def test_no_rewriting_of_the_question_is_paid(problem: Problem) -> None:
    assert attacks.paid_echoes(problem) == []


@pytest.mark.parametrize("reference", attacks.HEDGED)
def test_no_hedge_is_paid(reference: str) -> None:
    problem = Problem("h", "", reference)
    texts = list(attacks.hedges(reference, attacks.HEDGED[reference]))
    assert len(texts) >= 2 * len(attacks.LAYOUTS)
    assert [t for t in texts if math_answer(problem, t).value] == []


@pytest.mark.parametrize("reference", attacks.HEDGED)
def test_the_same_answer_twice_is_no_hedge(reference: str) -> None:
    for layout in (
        "\\boxed{{{0}}}, that is \\boxed{{{1}}}",
        "<answer>{0}</answer>\n\\boxed{{{1}}}",
        "#### {0}\nThe answer is ${1}$.",
    ):
        assert math_answer(Problem("h", "", reference), layout.format(reference, reference)).value == 1
