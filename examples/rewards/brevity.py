"""Rankone's own signature: one problem and one completion's text; a number comes back."""

from rewards.math_answer import math_answer
from rewards.types import Problem


def brevity(problem: Problem, completion: str) -> float:
    """Right answers score 1, less the share of 2,000 characters they took; wrong ones score 0."""
    return math_answer(problem, completion).value * max(0.1, 1 - len(completion) / 2_000)
