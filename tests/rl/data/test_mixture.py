"""Several sources of problems: what is drawn follows from weights, number and seed, and each is graded and measured."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.fakes import RIGHT, WRONG
from helpers.loop import SMALL, Bomb, Killed, parts_of, timeless
from hypothesis import given
from hypothesis import strategies as st

from lora.peft.files import read_peft
from rewards.config import RewardConfig
from rewards.grading.routed import RoutedGrader
from rewards.types import Grader, Problem, Reward
from rl.cluster.components import open_grader
from rl.config import RunConfig, replaced
from rl.data import ProblemStream, Split, draw, load_problems, sample_held_out
from rl.data.stream import BLOCK
from rl.jobs.package import JobPackage
from rl.launch.preflight import try_rewards
from rl.launch.train_recipe import TRAIN
from rl.monitoring.curve import accuracy_figure
from rl.run.directory import RunDirectory
from rl.run.journal import FileJournal
from rl.run.sinks import Sink, Sinks
from rl.settings.toml import dump_config, load_config
from rl.train import train

MIXED = """
num_steps = 4
runtime = "local"

[model]
name = "tiny-random"
dtype = "float32"
max_length = 96

[[data]]
source = "addition"
label = "easy"
weight = 3
digits = 1
num_train = 60
num_held_out = 12

[[data]]
source = "addition"
label = "hard"
digits = 3
num_train = 50
num_held_out = 20
[data.reward]
decimals = "exact"

[sampling]
max_tokens = 4

[rollout]
engine = "torch"
"""


class GraderOf(Grader):
    """Pays for a completion that begins with one of these characters."""

    def __init__(self, first: str) -> None:
        self.first = first
        self.checked: list[int] = []

    async def grade(
        self, problems: Sequence[Problem], texts_P_G: Sequence[Sequence[str]], _: object = None
    ) -> list[list[Reward]]:
        return [[RIGHT if text[:1] in self.first else WRONG for text in texts] for texts in texts_P_G]

    def check(self, rewards_P_G: Sequence[Sequence[Reward]], problems: Sequence[Problem] = ()) -> None:
        self.checked.append(len(rewards_P_G))

    async def close(self) -> None:
        """Nothing to release."""


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return mixed(tmp_path)


def mixed(directory: Path, *overrides: str, text: str = MIXED) -> RunConfig:
    (directory / "mixed.toml").write_text(text)
    return load_config(directory / "mixed.toml", [*SMALL, "num_steps=4", *overrides])


def problems_of(config: RunConfig) -> Split:
    return load_problems(config.data, config.seed, Path(), config.evaluate.num_test)


def stream_of(sizes: Sequence[int], weights: Sequence[float], seed: int = 0) -> ProblemStream:
    names = [f"s{index}" for index in range(len(sizes))]
    by_source = {
        name: [Problem(f"{name}/{i}", "?", "1", source=name) for i in range(size)]
        for name, size in zip(names, sizes, strict=True)
    }
    return ProblemStream(by_source, dict(zip(names, weights, strict=True)), seed)


# --- what is drawn ---


@given(
    numbers=st.lists(st.integers(0, 5000), max_size=30), weights=st.lists(st.floats(0.01, 10), min_size=1, max_size=4)
)
def test_a_number_stands_for_the_same_problem_whatever_was_drawn_before(
    numbers: list[int], weights: list[float]
) -> None:
    sizes = [7 + index for index in range(len(weights))]
    at_once = stream_of(sizes, weights).draw(numbers)
    stream = stream_of(sizes, weights)
    assert [stream.draw([number])[0] for number in reversed(numbers)] == at_once[::-1]


def test_sources_are_drawn_by_their_weights_and_each_goes_through_its_epochs() -> None:
    drawn = stream_of([40, 10], [3, 1]).draw(range(16 * BLOCK))
    counts = Counter(problem.source for problem in drawn)
    assert counts["s0"] == pytest.approx(12 * BLOCK, abs=16)
    for start in range(0, 16 * BLOCK, BLOCK):
        share = sum(problem.source == "s0" for problem in drawn[start : start + BLOCK])
        assert share == pytest.approx(0.75 * BLOCK, abs=1)
    for source, size in (("s0", 40), ("s1", 10)):
        row = [problem.id for problem in drawn if problem.source == source]
        epochs = [row[i : i + size] for i in range(0, len(row) - size + 1, size)]
        assert all(len(set(epoch)) == size for epoch in epochs)


def test_a_source_that_hardly_weighs_comes_now_and_then() -> None:
    drawn = stream_of([5, 5], [1, 0.001]).draw(range(100 * BLOCK))
    assert 8 < sum(problem.source == "s1" for problem in drawn) < 50, "26 on average"


def test_one_source_is_drawn_as_ever(config: RunConfig) -> None:
    train_problems = problems_of(config).train
    alone = [replace(problem, source="") for problem in train_problems]
    stream = ProblemStream.of(alone, (), 3)
    assert stream.draw(range(32, 48)) == draw(alone, 2, 16, 3)


def test_a_held_out_sample_takes_equally_of_each_source(config: RunConfig) -> None:
    held_out = problems_of(config).held_out
    assert Counter(p.source for p in sample_held_out(held_out, 10, 0)) == {"easy": 5, "hard": 5}
    assert Counter(p.source for p in sample_held_out(held_out, 30, 0)) == {"easy": 12, "hard": 18}
    assert sample_held_out(held_out, 9, 0) == sample_held_out(held_out, 10, 0)[:9]


# --- what is loaded and refused ---


def test_problems_know_their_source_and_the_test_is_of_all_of_them(tmp_path: Path) -> None:
    config = mixed(tmp_path, "evaluate.num_test=5")
    problems = problems_of(config)
    assert Counter(p.source for p in problems.train) == {"easy": 60, "hard": 50}
    assert Counter(p.source for p in problems.test) == {"easy": 3, "hard": 2}
    assert all(p.id.startswith(f"{p.source}/addition/") for p in (*problems.train, *problems.held_out))
    (tmp_path / "again.toml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.toml") == config


def test_what_one_source_holds_out_another_does_not_train_on(tmp_path: Path) -> None:
    twice = MIXED.replace("digits = 3", "digits = 1").replace("num_train = 50", "num_train = 60")
    with pytest.raises(ValueError, match=r"held-out problems are also in the training set.*take them out of one"):
        problems_of(mixed(tmp_path, text=twice.replace("num_held_out = 20", "num_held_out = 3")))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('label = "hard"', 'label = "easy"'), "two sources of [[data]] are called 'easy': give each a label"),
        (('label = "hard"', 'label = "pass_at"'), "no source of [[data]] may be called 'pass_at'"),
        (("weight = 3", "weight = 0"), "data[0].weight must be above 0"),
        (("digits = 3", "digit = 3"), "unknown key data[1].digit; did you mean data[].digits"),
        (("digits = 3", "digits = true"), "data[1].digits must be"),
        (('decimals = "exact"', "decimal = 3"), "unknown key data[1].reward.decimal; did you mean data[].reward.dec"),
        (("[sampling]", '[[evaluate.sets]]\nname = "hard"\nfile = "x"\n[sampling]'), "evaluate.sets are called 'hard'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    with pytest.raises(ValueError, match="toml") as caught:
        mixed(tmp_path, text=MIXED.replace(*change))
    assert complaint in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_job_takes_the_files_of_every_source(tmp_path: Path) -> None:
    (tmp_path / "sums.jsonl").write_text('{"question": "1 + 1 =", "answer": 2}\n{"question": "1 + 2 =", "answer": 3}\n')
    (tmp_path / "own_reward.py").write_text("def own(problem, completion):\n    return float(len(completion))\n")
    own = f'source = "jsonl"\ntrain = "sums.jsonl"\nnum_held_out = 1\n[data.reward]\nfunction = "{tmp_path}/own_reward.py:own"\n[[data]]\nsource = "addition"'
    config = mixed(tmp_path, text=MIXED.replace('source = "addition"', own, 1))
    folder = tmp_path / "job"
    folder.mkdir()
    sent = JobPackage(folder, tmp_path).add(config)
    first = sent.sources[0]
    assert first.source == "jsonl"
    assert (folder / first.train).is_file()
    assert first.reward is not None
    assert (folder / first.reward.function.partition(":")[0]).is_file()


# --- how it is graded and measured ---


async def test_each_source_is_graded_by_its_own_reward(config: RunConfig) -> None:
    easy, hard = GraderOf("0"), GraderOf("a")
    grader = RoutedGrader({"easy": easy, "hard": hard})
    problems = [Problem(str(i), "?", "1", source=source) for i, source in enumerate(["hard", "easy", "hard"])]
    texts = [["a", "0"], ["a", "0"], ["0"]]
    rewards = await grader.grade(problems, texts)
    assert rewards == [[RIGHT, WRONG], [WRONG, RIGHT], [WRONG]]
    assert [await grader.grade_part(p, t, ["stop"] * len(t)) for p, t in zip(problems, texts, strict=True)] == rewards
    grader.check(rewards, problems)
    assert (easy.checked, hard.checked) == ([1], [2])
    assert config.rewards == [config.reward, RewardConfig(decimals="exact")]
    async with open_grader(replaced(config, reward={"workers": 1})) as opened:
        graded = await opened.grade([replace(p, answer="1/3") for p in problems], [["\\boxed{0.333333}"]] * 3)
    assert [group[0].value for group in graded] == [0.0, 1.0, 0.0], "six digits do for one, and not for the other"


async def test_the_reward_of_each_source_is_tried_before_a_run(tmp_path: Path) -> None:
    (tmp_path / "constant.py").write_text("def constant(problem, completion):\n    return 1.0\n")
    config = mixed(tmp_path, text=MIXED.replace('decimals = "exact"', f'function = "{tmp_path}/constant.py:constant"'))
    with pytest.raises(ValueError, match="constant"):
        await try_rewards(config, problems_of(config).train)


async def run(config: RunConfig, path: Path, *, resume: bool = False, sinks: Sequence[Sink] = ()) -> RunDirectory:
    directory = RunDirectory.open(path) if resume else RunDirectory.create(path, config)
    grader = RoutedGrader({"easy": GraderOf("0123456789"), "hard": GraderOf("abcdefghijklm")})
    journal = FileJournal(directory, Sinks(sinks), resume=resume)
    await train(config, problems_of(config), parts_of(config, grader), journal)
    return directory


def without_checks(directory: RunDirectory) -> list[dict[str, Any]]:
    """Return the rows without the liveness check's: a resumed run checks once more."""
    rows = timeless(directory)
    return [{n: v for n, v in row.items() if not n.startswith(("policy/sampler", "policy/distance"))} for row in rows]


async def test_a_run_measures_each_source_and_resumes_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    config = mixed(tmp_path, "evaluate.num_test=4", "curriculum.refill_rounds=1")
    whole = await run(config, tmp_path / "whole")
    rows = whole.metrics()
    for name in ("eval/accuracy", "eval/easy/accuracy", "eval/hard/accuracy_low"):
        assert [row["step"] for row in rows if name in row] == [0, 2, 4]
    assert rows[0]["eval/accuracy"] == (rows[0]["eval/easy/accuracy"] + rows[0]["eval/hard/accuracy"]) / 2
    assert rows[-1].keys() >= {"test/accuracy", "test/easy/accuracy", "test/hard/accuracy"}
    assert all(row["data/easy/groups"] + row.get("data/hard/groups", 0) == row["rollout/drawn"] for row in rows[:-1])
    lines = {line.get_label() for line in accuracy_figure(rows, "").axes[0].lines}
    assert lines == {"reward, sampled completions", "held-out accuracy", "easy", "hard"}
    with pytest.raises(Killed):
        await run(config, tmp_path / "killed", sinks=[Bomb(2)])
    resumed = await run(config, tmp_path / "killed", resume=True)
    assert read_peft(resumed.adapters / "last") == read_peft(whole.adapters / "last")
    assert without_checks(resumed) == without_checks(whole)


def test_a_run_is_prepared_with_all_of_its_sources(config: RunConfig, tmp_path: Path) -> None:
    prepared = TRAIN.prepare(config, tmp_path)
    assert {p.source for p in prepared.problems.train} == {"easy", "hard"}
    assert prepared.config.sources == config.sources
