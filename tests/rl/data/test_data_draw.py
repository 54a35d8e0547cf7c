"""Drawing: what a step gets is a function of the step, and an epoch is a permutation."""

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from rewards.types import Problem
from rl.data import draw


def problems(count: int) -> list[Problem]:
    return [Problem(str(number), f"question {number}", "0") for number in range(count)]


sizes = st.integers(1, 40)
seeds = st.integers()


@given(size=sizes, count=st.integers(1, 100), seed=seeds)
def test_every_epoch_is_a_permutation(size: int, count: int, seed: int) -> None:
    pool = problems(size)
    steps = 3 * size // count + 1
    row = list(chain.from_iterable(draw(pool, step, count, seed) for step in range(steps)))
    for epoch in range(len(row) // size):
        assert sorted(row[epoch * size : (epoch + 1) * size], key=lambda p: int(p.id)) == pool


@given(size=sizes, step=st.integers(0, 1000), count=st.integers(0, 100), seed=seeds)
def test_a_step_is_the_same_whenever_it_is_asked_for(size: int, step: int, count: int, seed: int) -> None:
    drawn = draw(problems(size), step, count, seed)
    assert len(drawn) == count
    assert drawn == draw(problems(size), step, count, seed)


@given(size=sizes, step=st.integers(0, 20), count=st.integers(1, 20), seed=seeds)
def test_two_small_steps_are_one_large_one(size: int, step: int, count: int, seed: int) -> None:
    pool = problems(size)
    halves = draw(pool, 2 * step, count, seed) + draw(pool, 2 * step + 1, count, seed)
    assert halves == draw(pool, step, 2 * count, seed)


def test_epochs_and_seeds_differ() -> None:
    pool = problems(50)
    assert draw(pool, 0, 50, seed=0) != draw(pool, 1, 50, seed=0)
    assert draw(pool, 0, 50, seed=0) != draw(pool, 0, 50, seed=1)
    assert draw(pool, 0, 50, seed=0) != pool
