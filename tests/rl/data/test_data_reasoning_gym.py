"""Generated tasks: different problems on both sides, the task's own words in every error."""

from pathlib import Path
from typing import Any

import pytest

from rl.config import ReasoningGym
from rl.data import Split, load_problems


def load(seed: int = 0, **others: Any) -> Split:
    table = {"source": "reasoning_gym", "task": "chain_sum", "num_train": 60, "num_held_out": 20, **others}
    return load_problems(ReasoningGym.model_validate(table), seed, Path())


def test_problems_are_different_repeatable_and_keep_their_metadata() -> None:
    # Two one-digit numbers make about 200 questions, so the parts would overlap if they were drawn carelessly.
    split = load(options={"max_terms": 2, "max_digits": 1})
    questions = [p.question for p in split.train + split.held_out]
    assert len(set(questions)) == len(questions) == 80
    assert split == load(options={"max_terms": 2, "max_digits": 1})
    first = split.held_out[0]
    assert first.id.startswith("chain_sum/held_out/")
    assert first.metadata["source_dataset"] == "chain_sum"
    assert first.metadata["expression"] in first.question


def test_neighbouring_seeds_share_little() -> None:
    assert not {p.question for p in load(0).train} & {p.question for p in load(1).held_out}


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"task": "chainsum"}, r"^data.task: reasoning-gym has no task 'chainsum'; did you mean chain_sum or"),
        ({"task": "zzzzzz"}, r"no task 'zzzzzz'; its documentation lists them"),
        (
            {"options": {"terms": 3}},
            r"^data.options: chain_sum refuses them: .*'terms'; its options are min_terms, max_t",
        ),
        ({"options": {"min_terms": 0}}, r"chain_sum refuses them: min_terms must be positive; its options are"),
        ({"options": {"size": 3}}, r"data.options: 'size' is set by rankone itself"),
        (
            {"options": {"max_terms": 2, "max_digits": 1}, "num_held_out": 500},
            r"data.num_held_out = 500: .* gave only \d+",
        ),
        ({"options": {"max_terms": 2, "max_digits": 1}, "num_train": 500}, r"data.num_train = 500: .* gave only \d+"),
        ({"task": "graph_color"}, r"^data.task: graph_color makes problems with no single right answer"),
    ],
)
def test_what_a_task_cannot_do_is_said(table: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        load(**table)
