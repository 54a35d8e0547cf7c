"""Sources with episodes of their own beside others: prompts, turns, rewards, budgets, resuming, and what is refused."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.loop import Bomb, EagerGrader, Killed, parts_of, timeless

from lora.base.tokenizer import load_tokenizer
from lora.peft.files import read_peft
from lora.types import Adapter
from rewards.types import Problem
from rl.algorithm.sampling.groups import Question, Sampler
from rl.config import RunConfig, replaced
from rl.data.prompts import Encoder
from rl.episodes.by_source import SourceEncoder, SourceSampler
from rl.episodes.open import open_player
from rl.episodes.trial import try_environments
from rl.jobs.package import JobPackage
from rl.launch.train_recipe import TRAIN
from rl.run.directory import RunDirectory
from rl.run.journal import FileJournal
from rl.run.sinks import Sinks
from rl.settings.toml import dump_config, load_config
from rl.sweep.directory import open_directory
from rl.sweep.points import load_sweep
from rl.sweep.run import prepare_sweep
from rl.train import train
from rl.types import Episode
from rollout.config import SamplingConfig
from rollout.types import Completion, Place

GAME = """
from rl.episodes import Observation

class Game:
    def __init__(self, problem, seed):
        assert problem.source == "game"
        self.turns = 0

    def step(self, messages):
        self.turns += 1
        return Observation("again", done=self.turns == 2, reward=float(messages[-1]["content"][:1].isdigit()))
"""
MIXED = """
num_steps = 4
problems_per_step = 8
runtime = "local"

[model]
name = "tiny-random"
dtype = "float32"
max_length = 96

[[data]]
source = "addition"
label = "sums"
digits = 1
num_train = 40
num_held_out = 8

[[data]]
source = "jsonl"
label = "game"
train = "game.jsonl"
num_held_out = 4

[data.episodes]
environment = "game.py:Game"
max_turns = 3
max_tokens = 24
workers = 1

[sampling]
group_size = 4
max_tokens = 3

[evaluate]
every = 4
num_problems = 8

[rollout]
engine = "torch"

[reward]
truncated = "grade"
"""


@pytest.fixture
def mixed(tmp_path: Path) -> RunConfig:
    """The configuration, and the files that it names."""
    (tmp_path / "game.py").write_text(GAME)
    rows = [json.dumps({"question": f"round {i}:", "answer": str(i)}) for i in range(24)]
    (tmp_path / "game.jsonl").write_text("\n".join(rows))
    (tmp_path / "run.toml").write_text(MIXED)
    return load_config(tmp_path / "run.toml")


async def test_each_source_plays_its_own_turns_and_resumes_bit_for_bit(mixed: RunConfig, tmp_path: Path) -> None:
    prepared = TRAIN.prepare(mixed, tmp_path)
    config, problems = prepared.config, prepared.problems
    own = config.episodes_of("game").environment
    assert own is not None
    assert Path(own.rpartition(":")[0]).is_absolute()
    seen: list[tuple[str, bool, int]] = []

    class Watching(Sinks):
        def on_step(self, step: int, metrics: Mapping[str, float], groups: Any) -> None:
            for group in groups:
                assert len(group.completions) == len(group.rewards) == 4
                seen.extend(
                    (group.problem.source, isinstance(c, Episode), getattr(c, "num_turns", 1))
                    for c in group.completions
                )
            super().on_step(step, metrics, groups)

    async def run(name: str, *sinks: Any, resume: bool = False) -> RunDirectory:
        path = tmp_path / name
        directory = RunDirectory.open(path) if resume else RunDirectory.create(path, config)
        parts = parts_of(config, EagerGrader())
        async with open_player(config, parts.engine) as sampler:
            journal = FileJournal(directory, Watching(sinks), resume=resume)
            await train(config, problems, replace(parts, sampler=sampler, encode=prepared.encode), journal)
        return directory

    whole = await run("whole")
    assert {each for each in seen if each[0] == "sums"} == {("sums", False, 1)}
    assert {each for each in seen if each[0] == "game"} == {("game", True, 2)}
    with pytest.raises(Killed):
        await run("stopped", Bomb(2))
    resumed = await run("stopped", resume=True)
    assert read_peft(resumed.adapters / "last") == read_peft(whole.adapters / "last")
    assert timeless(resumed)[-1]["eval/game/accuracy"] == timeless(whole)[-1]["eval/game/accuracy"]


def test_lengths_are_those_of_the_longest_source(mixed: RunConfig) -> None:
    assert mixed.plays
    assert (mixed.longest_completion, mixed.longest_trained, mixed.most_sampled) == (24, 24, 9)
    assert mixed.room_for_prompt == 96 - 24
    off = replaced(mixed, data=[{**dict(source), "episodes": None} for source in mixed.sources])
    assert not off.plays
    assert (off.longest_completion, off.most_sampled) == (3, 3)
    turned = replaced(off, episodes={"environment": "game.py:Game", "max_tokens": 30})
    alone = [{**dict(source), "episodes": {} if source.key == "sums" else None} for source in mixed.sources]
    both = replaced(turned, data=alone)
    assert (both.episodes_of("sums").on, both.episodes_of("game").on) == (False, True)


def test_it_is_written_and_read_back(mixed: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "again.toml").write_text(dump_config(mixed))
    assert load_config(tmp_path / "again.toml") == mixed


async def test_every_sources_environment_is_tried_once(mixed: RunConfig, tmp_path: Path) -> None:
    prepared = TRAIN.prepare(mixed, tmp_path)
    tried: set[str] = set()
    await try_environments(prepared.config, prepared.problems.train, tried)
    assert len(tried) == 2
    (tmp_path / "game.py").write_text(GAME.replace("self.turns += 1", "raise KeyError('broken')"))
    with pytest.raises(ValueError, match="KeyError: 'broken'"):
        await try_environments(prepared.config, prepared.problems.train, set())


def test_a_sweeps_directory_names_each_sources_environment_by_its_whole_path(mixed: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text('base = "run.toml"\n[axes]\n"learner.lr" = [1e-3, 2e-3]\n')
    sweep = load_sweep(tmp_path / "sweep.toml")
    (tmp_path / "out").mkdir()
    open_directory(sweep, prepare_sweep(sweep), tmp_path / "out", resume=False)
    kept = load_sweep(tmp_path / "out" / "sweep.toml").base
    assert kept.episodes_of("game").environment == f"{(tmp_path / 'game.py').resolve()}:Game"


def test_a_job_takes_each_sources_environment_along(mixed: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    sent = JobPackage(tmp_path / "job", tmp_path).add(mixed)
    own = sent.episodes_of("game").environment
    assert own is not None
    assert (tmp_path / "job" / own.rpartition(":")[0]).read_text() == GAME


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_tokens = 24", "max_tokens = 2", "episodes.max_tokens = 2 is below the 3 tokens of a single turn"),
        ("max_tokens = 24", "max_tokens = 96", "episodes.max_tokens must be below model.max_length"),
        ('"game.py:Game"', '"verifiers:wordle"', "source 'game' .* its own taskset: give the source of that taskset"),
        (
            'jsonl"\nlabel = "game"\ntrain = "game.jsonl"',
            'verifiers"\nlabel = "game"\ntaskset = "wordle"',
            "source .game. .* set its .data.episodes. to environment = .verifiers:wordle",
        ),
        (
            "[rollout]",
            '[episodes]\nenvironment = "verifiers:wordle"\nmax_tokens = 24\n\n[rollout]',
            "source 'sums' .* each other source that .episodes. is not for an empty",
        ),
        ("[rollout]", "[learner]\noverlong_buffer = 2\n\n[rollout]", "learner.overlong_buffer counts from the longest"),
    ],
)
def test_what_a_source_cannot_play_is_refused(
    mixed: RunConfig, tmp_path: Path, old: str, new: str, message: str
) -> None:
    (tmp_path / "run.toml").write_text(MIXED.replace(old, new))
    with pytest.raises(ValueError, match=message):
        load_config(tmp_path / "run.toml")


class Failing(Sampler):
    async def stream(
        self, questions: Sequence[Question], adapter: Adapter, sampling: SamplingConfig
    ) -> AsyncGenerator[tuple[Place, Completion]]:
        for index in range(len(questions)):
            yield (index, 0), Completion((1,), (-1.0,), "x", "stop", 0)
        raise RuntimeError("its environments are gone")


async def test_places_are_those_of_all_questions_and_a_source_that_fails_ends_all() -> None:
    asked = [Question(i, Problem(str(i), "?", "1", source="b" if i % 2 else "a"), [1], i) for i in range(4)]
    got: list[Place] = []
    sampler = SourceSampler(None, {"a": Failing(), "b": Failing()})  # pyright: ignore[reportArgumentType]

    async def listen() -> None:
        async for place, _ in sampler.stream(asked, Adapter("run", 0, b""), SamplingConfig()):
            got.append(place)

    with pytest.raises(RuntimeError, match="its environments are gone"):
        await listen()
    assert len(got) == len(set(got)) > 0
    assert set(got) <= {(i, 0) for i in range(4)}


def test_a_problem_has_its_sources_prompt_and_an_evaluations_own_the_runs(mixed: RunConfig) -> None:
    tokenizer = load_tokenizer(mixed.model)
    long, short = (Encoder(tokenizer, replaced(mixed.prompt, system=text), 60) for text in ("be long and longer", None))
    encode = SourceEncoder({"a": long, "": short})
    problems = [Problem("1", "1 + 1 =", "2", source=source) for source in ("", "a", "set", "a")]
    prompts = encode.encode(problems)
    assert prompts == [short(problems[0]), long(problems[1]), short(problems[2]), long(problems[3])]
    assert encode(problems[1]) == prompts[1] != prompts[0]
    assert encode.longest(problems) == max(map(len, prompts))
