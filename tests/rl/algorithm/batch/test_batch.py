"""Packed rows hold every completion that teaches, exactly once, and nothing leaks between them."""

from dataclasses import fields

import torch
from helpers.fakes import CRASHED, RIGHT, WRONG, made_groups, problem
from hypothesis import given
from hypothesis import strategies as st

from rl.algorithm.batch.packing import attention_mask, build_batch, unpack_rows
from rl.types import Group, Row
from rollout.types import Completion

Seen = tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...], float]
"""Prompt, completion, its sampler's logprobs and its advantage."""


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[Group], list[list[float]], int]:
    tokens = st.lists(st.integers(3, 99), min_size=1, max_size=8)
    groups, advantages = [], []
    for i in range(draw(st.integers(0, 4))):
        size = draw(st.integers(1, 6))
        written = [draw(tokens) for _ in range(size)]
        completions = [Completion(tuple(t), tuple(-k / 8 for k, _ in enumerate(t)), "", "stop", 0) for t in written]
        rewards = [draw(st.sampled_from([RIGHT, WRONG, CRASHED])) for _ in range(size)]
        groups.append(Group(problem(str(i)), draw(tokens), completions, rewards))
        advantages.append([draw(st.sampled_from([0.0, 0.5, -1.0])) if r.is_valid else 0.0 for r in rewards])
    return groups, advantages, draw(st.integers(1, 40))


def prompt_of(row: Row) -> tuple[int, ...]:
    return tuple(row.token_ids[row.segment_ids == 0].tolist())


def decoded(row: Row) -> list[Seen]:
    """The row's completions, read back through targets alone."""
    seen: list[Seen] = []
    for index in range(int(row.sequence_ids.max()) + 1):
        mine = row.sequence_ids == index
        (advantage,) = set(row.advantages[mine].tolist())
        seen.append(
            (prompt_of(row), tuple(row.targets[mine].tolist()), tuple(row.rollout_logprobs[mine].tolist()), advantage)
        )
    return seen


@given(batches())
def test_rows_hold_every_completion_with_a_signal_once(batch: tuple[list[Group], list[list[float]], int]) -> None:
    groups, advantages, tokens_per_row = batch
    built = build_batch(groups, advantages, tokens_per_row)
    expected = [
        (tuple(group.prompt), completion.token_ids, completion.logprobs, advantage)
        for group, group_advantages in zip(groups, advantages, strict=True)
        for completion, advantage in zip(group.completions, group_advantages, strict=True)
        if advantage != 0
    ]
    assert [seen for row in built.rows for seen in decoded(row)] == expected


@given(batches())
def test_unpacked_rows_are_those_of_one_completion_each(batch: tuple[list[Group], list[list[float]], int]) -> None:
    groups, advantages, tokens_per_row = batch
    unpacked = unpack_rows(build_batch(groups, advantages, tokens_per_row).rows)
    expected = [
        row
        for group, group_advantages in zip(groups, advantages, strict=True)
        for completion, reward, advantage in zip(group.completions, group.rewards, group_advantages, strict=True)
        for row in build_batch([Group(group.problem, group.prompt, [completion], [reward])], [[advantage]], 1).rows
    ]
    assert len(unpacked) == len(expected)
    for mine, theirs in zip(unpacked, expected, strict=True):
        assert mine.in_ratio is theirs.in_ratio is None  # every target of a run's has a share in its ratio
        assert mine.routed_experts is theirs.routed_experts is None
        for part in fields(Row):
            if part.name not in ("in_ratio", "routed_experts"):
                assert torch.equal(getattr(mine, part.name), getattr(theirs, part.name)), part.name


@given(batches())
def test_the_divisor_counts_the_tokens_of_every_graded_completion(
    batch: tuple[list[Group], list[list[float]], int],
) -> None:
    groups, advantages, tokens_per_row = batch
    assert build_batch(groups, advantages, tokens_per_row).num_tokens == sum(
        len(completion.token_ids)
        for group in groups
        for completion, reward in zip(group.completions, group.rewards, strict=True)
        if reward.is_valid
    )


@given(batches())
def test_a_target_is_predicted_from_its_prompt_and_its_own_tokens_before_it_and_nothing_else(
    batch: tuple[list[Group], list[list[float]], int],
) -> None:
    for row in build_batch(*batch).rows:
        visible = attention_mask(row.segment_ids)
        for index, (prompt, written, _, _) in enumerate(decoded(row)):
            predictors = row.predictors[row.sequence_ids == index].tolist()
            for count, predictor in enumerate(predictors):
                sees = visible[predictor].nonzero().flatten()
                assert tuple(row.token_ids[sees].tolist()) == prompt + written[:count]
                assert row.position_ids[sees].tolist() == list(range(len(prompt) + count))
                assert sees[-1] == predictor


@given(batches())
def test_a_row_is_too_long_only_for_one_completion_that_is(batch: tuple[list[Group], list[list[float]], int]) -> None:
    groups, advantages, tokens_per_row = batch
    for row in build_batch(groups, advantages, tokens_per_row).rows:
        assert len(row.token_ids) <= tokens_per_row or len(decoded(row)) == 1


def test_a_groups_prompt_is_held_once_where_its_completions_fit() -> None:
    groups = made_groups(0, groups=1, size=6)
    (row,) = build_batch(groups, [[0.5] * 6], 1024).rows
    assert len(row.token_ids) == len(groups[0].prompt) + sum(len(c.token_ids) - 1 for c in groups[0].completions)


def test_padding_sees_itself_and_is_seen_by_nothing() -> None:
    mask = attention_mask(torch.tensor([0, 0, 1, 1, 2, -1, -1]))
    assert mask[5:].nonzero().tolist() == [[0, 5], [1, 6]]
    assert mask[:, 5:].nonzero().tolist() == [[5, 0], [6, 1]]


def test_the_example_in_the_documentation_of_rows() -> None:
    completions = [Completion((1, 2), (-1.0, -2.0), "", "stop", 0), Completion((3,), (-3.0,), "", "stop", 0)]
    group = Group(problem(), [7, 8], completions, [RIGHT, WRONG])
    (row,) = build_batch([group], [[0.5, -0.5]], 1024).rows
    assert row.token_ids.tolist() == [7, 8, 1]
    assert row.segment_ids.tolist() == [0, 0, 1]
    assert row.predictors.tolist() == [1, 2, 1]
    assert row.targets.tolist() == [1, 2, 3]
    assert row.sequence_ids.tolist() == [0, 0, 1]
