"""A rare success takes the place of a failure where its whole group failed, and nothing else is learned from twice."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.fakes import CRASHED, RIGHT, WRONG, made_groups
from helpers.loop import SMALL, Bomb, EagerGrader, Killed, configuration, run, timeless

from lora.peft.files import read_peft
from rewards.types import Problem, Reward
from rl.algorithm.sampling.replay import Replay
from rl.config import replaced
from rl.run import checkpoint
from rl.run.directory import RunDirectory
from rl.types import Episode, Group

FIRST, OTHER = made_groups(0, groups=2)


def graded(*rewards: Reward, group: Group = FIRST) -> Group:
    return replace(group, rewards=list(rewards))


RARE = graded(WRONG, RIGHT, WRONG, WRONG)
FAILED = replace(graded(WRONG, WRONG, WRONG, WRONG), completions=made_groups(5)[0].completions)


def kept(*groups: Group, size: int = 8) -> Replay:
    replay = Replay(size)
    replay.observe(groups)
    return replay


def test_the_last_failure_of_a_failed_group_gives_way_to_the_success() -> None:
    (filled,) = kept(RARE).fill([FAILED])
    assert filled.completions == [*FAILED.completions[:3], RARE.completions[1]]
    assert filled.rewards == [WRONG, WRONG, WRONG, RIGHT]
    assert (filled.problem, filled.prompt) == (FAILED.problem, FAILED.prompt)


@pytest.mark.parametrize(
    "group",
    [
        graded(RIGHT, WRONG, WRONG, WRONG),
        graded(RIGHT, CRASHED, CRASHED, CRASHED),
        graded(WRONG, WRONG, WRONG, WRONG, group=OTHER),
        replace(FAILED, prompt=[*FAILED.prompt, 1]),
    ],
    ids=["one is right", "one is right of those that count", "another problem", "another prompt"],
)
def test_other_groups_stay_as_they_are(group: Group) -> None:
    (filled,) = kept(RARE).fill([group])
    assert filled is group


def test_a_success_among_many_is_not_kept_and_ends_what_was() -> None:
    often = graded(RIGHT, RIGHT, WRONG, WRONG)
    for replay in (kept(often), kept(RARE, often), kept(graded(RIGHT, CRASHED, WRONG, WRONG)), kept(RARE, size=0)):
        assert replay.fill([FAILED]) == [FAILED]
    assert kept(RARE, FAILED).fill([FAILED]) != [FAILED], "failing again does not"


def test_the_newest_is_kept_and_the_oldest_makes_room() -> None:
    newer = replace(RARE, completions=made_groups(7)[0].completions)
    (filled,) = kept(RARE, newer).fill([FAILED])
    assert filled.completions[-1] == newer.completions[1]
    rare, failed = replace(OTHER, rewards=RARE.rewards), replace(OTHER, rewards=FAILED.rewards)
    filled = kept(RARE, rare, size=1).fill([FAILED, failed])
    assert filled[0] is FAILED
    assert filled[1] is not failed
    assert kept(RARE, rare, RARE, size=1).fill([FAILED])[0] is not FAILED, "it was renewed"


def test_its_state_goes_through_json_and_brings_back_the_same() -> None:
    rare = replace(RARE, completions=[replace(c, loss_mask=(False,) * len(c.token_ids)) for c in RARE.completions])
    other = replace(OTHER, rewards=RARE.rewards)
    replay = kept(rare, other)
    again = Replay(8, json.loads(json.dumps(replay.state())))
    groups = [FAILED, replace(OTHER, rewards=FAILED.rewards)]
    assert again.fill(groups) == replay.fill(groups) != groups
    smaller = Replay(1, replay.state())
    assert smaller.fill(groups) == [FAILED, replay.fill(groups)[1]]


def test_of_an_episode_what_is_learned_from_is_kept() -> None:
    tokens, mask = RARE.completions[1].token_ids, tuple(i == 0 for i in range(len(RARE.completions[1].token_ids)))
    episode = Episode(
        tokens, RARE.completions[1].logprobs, "last turn", "stop", 3, loss_mask=mask,
        turns=({"role": "user", "content": "?"},), num_turns=2, reward=RIGHT,
    )  # fmt: skip
    played = replace(RARE, completions=[RARE.completions[0], episode, *RARE.completions[2:]])
    (filled,) = Replay(8, json.loads(json.dumps(kept(played).state()))).fill([FAILED])
    last = filled.completions[-1]
    assert (last.token_ids, last.logprobs, last.loss_mask) == (tokens, episode.logprobs, mask)
    assert last.policy_version == 3


class StrictGrader(EagerGrader):
    """A grade that the policy seldom earns at first: right is what begins with one of three digits."""

    async def grade(
        self, problems: Sequence[Problem], texts_P_G: Sequence[Sequence[str]], _: object = None
    ) -> list[list[Reward]]:
        return [[RIGHT if text[:1] in ("1", "2", "3") else WRONG for text in texts] for texts in texts_P_G]


def steps(directory: RunDirectory) -> list[dict[str, Any]]:
    """Return the rows of steps that learned, without the liveness check's: a resumed run checks once more."""
    rows = [row for row in timeless(directory) if "curriculum/replayed" in row]
    return [{n: v for n, v in row.items() if not n.startswith(("policy/sampler", "policy/distance"))} for row in rows]


async def test_a_run_that_replays_counts_only_what_it_sampled_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    small = (*SMALL, "evaluate.every=6", "evaluate.num_problems=4", "data.num_held_out=88", "learner.lr=1e-4")
    config = configuration(*small, "curriculum.replay_problems=6")
    whole = await run(config, tmp_path / "whole", StrictGrader())
    with pytest.raises(Killed):
        await run(config, tmp_path / "stopped", StrictGrader(), sinks=[Bomb(4)])
    resumed = await run(config, tmp_path / "stopped", StrictGrader(), resume=True)
    assert read_peft(resumed.adapters / "last") == read_peft(whole.adapters / "last")
    rows = steps(whole)
    assert steps(resumed) == rows
    replayed = sum(row["curriculum/replayed"] for row in rows)
    assert replayed > 0
    newest = checkpoint.newest(whole.checkpoints)
    assert newest is not None
    assert 0 < len(newest.drawn["replay"]) == rows[-1]["curriculum/kept"] <= 6
    silent = [row["group/no_signal_fraction"] for row in rows]
    assert max(silent) > 0, "groups are counted as they were sampled"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": {"adapter": "a"}}, "leave one of the two out"),
        ({"learner": {"objective": "reinforce"}}, "is right on policy alone"),
        ({"curriculum": {"replay_problems": 5000}}, "less than or equal to 4096"),
    ],
)
def test_what_it_does_not_go_with_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replaced(replaced(configuration(), curriculum={"replay_problems": 4}), **change)
