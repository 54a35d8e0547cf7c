"""Splits: training and held-out problems share nothing, and nothing else is lost."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.types import Problem
from rl.config import Addition
from rl.data import Split, check_disjoint, load_problems
from rl.data.split import question_key, set_apart

NOWHERE = Path()


def problem(number: int, question: str) -> Problem:
    return Problem(str(number), question, "0")


questions = st.lists(st.sampled_from(["a", "A ", "b c", "b\n  C", "d", "e", "f", "g"]), min_size=1, max_size=20)


@given(texts=questions, count=st.integers(1, 6), seed=st.integers())
def test_setting_apart_shares_nothing_and_loses_only_duplicates(texts: list[str], count: int, seed: int) -> None:
    pool = [problem(number, text) for number, text in enumerate(texts)]
    different = {question_key(text) for text in texts}
    if len(different) <= count:
        with pytest.raises(ValueError, match=f"has {len(different)} different problems, so {count} cannot be held out"):
            set_apart(pool, count, seed, "mine.jsonl")
        return
    split = set_apart(pool, count, seed, "mine.jsonl")
    check_disjoint(split)
    held_out = {question_key(p.question) for p in split.held_out}
    assert len(split.held_out) == len(held_out) == count
    assert list(split.train) == [p for p in pool if question_key(p.question) not in held_out]
    assert split == set_apart(pool, count, seed, "mine.jsonl")


def test_a_shared_question_is_found_whatever_its_case_and_spaces() -> None:
    split = Split(
        train=(problem(1, "What is\n 2 + 2?"), problem(2, "other")),
        held_out=(problem(3, " what IS 2 + 2? "), problem(4, "x")),
    )
    with pytest.raises(
        ValueError, match=r"1 of 2 held-out problems .* 3 \(the same as 1\): 'what IS 2 \+ 2\?'; do this"
    ):
        check_disjoint(split, "do this")


@given(seed=st.integers(), digits=st.integers(1, 9), train=st.integers(1, 60), held_out=st.integers(1, 15))
def test_additions_are_right_different_and_held_out_with_their_twins(
    seed: int, digits: int, train: int, held_out: int
) -> None:
    config = Addition(digits=digits, num_train=train, num_held_out=held_out)
    split = load_problems(config, seed, base=NOWHERE)
    assert (len(split.train), len(split.held_out)) == (train, held_out)
    assert split == load_problems(config, seed, base=NOWHERE)
    for p in split.train + split.held_out:
        assert p.question == f"{p.metadata['a']} + {p.metadata['b']} ="
        assert p.answer == str(p.metadata["a"] + p.metadata["b"])
        assert {len(str(p.metadata[name])) for name in "ab"} == {digits}
    assert len({p.id for p in split.train + split.held_out}) == train + held_out
    assert not {twins(p) for p in split.train} & {twins(p) for p in split.held_out}


def twins(p: Problem) -> frozenset[int]:
    return frozenset((p.metadata["a"], p.metadata["b"]))


def test_the_default_additions_exist_and_depend_on_the_seed() -> None:
    split = load_problems(Addition(), 0, NOWHERE)
    assert (len(split.train), len(split.held_out)) == (4000, 256)
    assert split.held_out != load_problems(Addition(), 1, NOWHERE).held_out


def test_one_digit_gives_no_more_than_its_sums() -> None:
    assert len(load_problems(Addition(digits=1, num_train=98, num_held_out=1), 0, NOWHERE).train) == 98
    with pytest.raises(ValueError, match=r"data.digits = 1 gives 100 sums, too few .* raise data.digits"):
        load_problems(Addition(digits=1), 0, NOWHERE)
