"""Degrees answer radians where the question leaves it open, and nowhere else."""

import pytest

from rewards.math_answer import math_answer
from rewards.types import Problem

THIRD = r"\frac{\pi}{3}"
RIGHT = [
    ("", THIRD, r"60^\circ"), ("", THIRD, r"60 \text{ degrees}"), ("", r"\frac{\pi}{8}", r"22.5^\circ"),
    (r"Compute $\arccos \frac{1}{2}$.", THIRD, r"60^\circ"), (r"Find the angle $\theta$.", r"-\frac{\pi}{6}", r"-30^\circ"),
    (r"Find all angles $\theta$.", r"\frac{\pi}{3}, \frac{5\pi}{3}", r"60^\circ, 300^\circ"),
    ("Convert to polar coordinates.", rf"(2, {THIRD})", r"(2, 60^\circ)"),
]  # fmt: skip
WRONG = [
    ("", THIRD, "60"), ("", THIRD, r"61^\circ"), ("", r"60^\circ", THIRD), ("", "60", THIRD), ("", r"\frac{\pi x}{3}", r"60x^\circ"),
    (r"Convert $60^\circ$ to radians.", THIRD, r"60^\circ"), (r"Write $60^\circ$ as a multiple of $\pi$.", THIRD, r"60^\circ"),
    (r"Compute $\arccos \frac{1}{2}$ in radians.", THIRD, r"60^\circ"), (r"Write the angle in terms of $\pi$.", THIRD, r"60^\circ"),
    ("What is the area of a circle of radius 1?", r"\pi", r"180^\circ"), ("How long is the path?", r"2\pi", r"360^\circ"),
    (r"An angle of a triangle is $60^\circ$. How long is the arc length opposite to it?", THIRD, r"60^\circ"),
    (r"Compute $\arccos \frac{1}{2}$.", THIRD, r"60^\circ C"), (r"Compute $\arccos \frac{1}{2}$.", THIRD, r"1/3 \cdot 180^\circ"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "reference", "answer"), RIGHT)
def test_degrees_answer_radians(question: str, reference: str, answer: str) -> None:
    assert math_answer(Problem("p", question, reference), rf"So it is $\boxed{{{answer}}}$.").value == 1


@pytest.mark.parametrize(("question", "reference", "answer"), WRONG)
def test_degrees_are_no_other_quantity_and_no_echo(question: str, reference: str, answer: str) -> None:
    assert math_answer(Problem("p", question, reference), rf"So it is $\boxed{{{answer}}}$.").value == 0
