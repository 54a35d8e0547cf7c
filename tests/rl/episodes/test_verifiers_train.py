"""Environments of the real `verifiers`, unmodified, in episodes of `rankone train`: a question, a game, and a tool.

verifiers lives in a Python of its own, whose start costs seconds, so one process plays nearly all of this.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import chat_model
from helpers.fakes import SameTextGrader
from helpers.loop import Bomb, Killed, timeless
from helpers.torch_learner import TorchLearner

from lora.base.tokenizer import load_tokenizer
from lora.types import Adapter
from rewards.types import Outcome, Problem, Reward
from rl.algorithm.batch.packing import build_batch
from rl.algorithm.liveness import PolicyChecker
from rl.algorithm.sampling.groups import Question, Sampler, sample_groups
from rl.config import EpisodesConfig, RunConfig, Verifiers, replaced
from rl.data import Split, load_problems
from rl.data.verifiers import find_python, load_verifiers
from rl.episodes.open import Environments, encoder_of, open_environments, player_of, sampler_of
from rl.episodes.verifiers.host import VerifiersHost
from rl.run.directory import RunDirectory
from rl.run.journal import FileJournal, sample_rows
from rl.run.sinks import Sink, Sinks
from rl.settings.toml import dump_config, load_config
from rl.train import Components, train
from rl.types import Episode, Group
from rollout.config import SamplingConfig
from rollout.torch.engine import TorchEngine
from rollout.types import Completion

GAMES = Path(__file__).with_name("verifiers_games.py")
PRICES = Path(__file__).parents[3] / "examples" / "verifiers" / "price_list.py"


def _python() -> str | None:
    try:
        return find_python(None, Path(__file__).parents[3])
    except ValueError:
        return None


pytestmark = pytest.mark.skipif(
    _python() is None, reason="verifiers is not here: `make verifiers` makes an environment that has it"
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    directory = tmp_path_factory.mktemp("chat") / "model"
    directory.mkdir()
    chat_model.build(directory, max_length=3000)
    return RunConfig.model_validate({
        "runtime": "local", "num_steps": 2, "problems_per_step": 2,
        "model": {"name": str(directory), "dtype": "float32", "max_length": 2900},
        "data": {"source": "verifiers", "taskset": str(GAMES), "python": _python(), "num_held_out": 1},
        "episodes": {
            "environment": f"verifiers:{GAMES}", "max_turns": 2, "max_tokens": 2800, "workers": 1, "step_timeout": 10.0,
        },
        "sampling": {"group_size": 2, "max_tokens": 5}, "rollout": {"engine": "torch"},
        "evaluate": {"every": 2, "num_problems": 1, "temperature": 1.0},
    })  # fmt: skip


@pytest.fixture(scope="module")
def tasks(config: RunConfig) -> list[Problem]:
    """The problems of all tasks, by their number."""
    assert isinstance(config.data, Verifiers)
    split = load_verifiers(config.data, 0, Path())
    assert (len(split.train), len(split.held_out)) == (7, 1)
    return sorted([*split.train, *split.held_out], key=lambda problem: problem.id)


@pytest.fixture(scope="module")
def environments(config: RunConfig) -> Iterator[Environments]:
    opened = open_environments(config)
    yield opened
    assert isinstance(opened.pool, VerifiersHost)
    pids = opened.pool.pids
    asyncio.run(opened.close())
    assert not any(map(psutil.pid_exists, pids))


@pytest.fixture(scope="module")
def adapter(config: RunConfig) -> Adapter:
    learner = TorchLearner("run", config.model, config.lora, config.learner, temperature=1.0, seed=0)
    return asyncio.run(learner.publish())


@pytest.fixture(scope="module")
def engine(config: RunConfig) -> TorchEngine:
    return TorchEngine(config.model, config.lora)


async def play(
    config: RunConfig, problems: Sequence[Problem], engine: Any, adapter: Adapter, environments: Environments,
    *, size: int = 2,
) -> list[Group]:  # fmt: skip
    encode, sampling = encoder_of(config, load_tokenizer(config.model)), replaced(config.sampling, group_size=size)
    questions = [Question(i, problem, encode(problem), 100 + size * i) for i, problem in enumerate(problems)]
    player = player_of(config, engine, environments)
    groups, _ = await sample_groups(questions, adapter, sampling, engine, SameTextGrader(), player)
    return groups


def chat(*turns: str) -> str:
    """Return a chat whose last turn the policy is to write."""
    return "".join(f"<|im_start|>{turn}<|im_end|>\n" for turn in turns) + "<|im_start|>assistant\n"


async def test_questions_and_games_become_rows_of_exact_tokens_again_and_again(
    config: RunConfig, tasks: list[Problem], engine: TorchEngine, adapter: Adapter, environments: Environments
) -> None:
    groups = await play(config, tasks[:3], engine, adapter, environments)
    assert await play(config, tasks[:3], engine, adapter, environments) == groups, "a function of seeds and policy"
    tokenizer: Any = load_tokenizer(config.model)
    for number, group in enumerate(groups):
        assert group.problem.question == f"{number}?"
        assert tokenizer.decode(group.prompt) == chat("system\ncount", f"user\n{number}?")
        assert len({episode.token_ids for episode in group.completions}) == 2
        for episode, reward in zip(group.completions, group.rewards, strict=True):
            assert isinstance(episode, Episode)
            said = [turn["content"] for turn in episode.turns]
            assert [turn["role"] for turn in episode.turns] == ["assistant", *["user", "assistant"] * min(number, 1)]
            assert said[1::2] == ["0!"][:number]
            assert reward.outcome is Outcome.CORRECT
            if "</think>" not in tokenizer.decode(episode.token_ids):  # which parts a thought from what is said
                assert reward.value == pytest.approx(number + len(said[-1].strip()) / 10), "the task's and the game's"
            assert (episode.ending, episode.num_turns) == ("turns" if number == 2 else "done", min(2, number + 1))
            mask = episode.loss_mask or (True,) * len(episode.token_ids)
            between = chat("user\n0!").removeprefix("<|im_start|>")
            given = tokenizer.decode([token for token, own in zip(episode.token_ids, mask, strict=True) if not own])
            assert given.count(between) == min(number, 1)
            (scores,) = await engine.score([[*group.prompt, *episode.token_ids]], adapter)
            of_episode = zip(scores[len(group.prompt) - 1 :], episode.logprobs, mask, strict=True)
            assert all(not own or logprob == pytest.approx(score, abs=1e-4) for score, logprob, own in of_episode)
            assert all(own or logprob == 0.0 for logprob, own in zip(episode.logprobs, mask, strict=True))
    batch = build_batch(groups, [[1.0, -1.0]] * 3, 4000)
    assert len(batch.rows) == 3, "a prompt once, and both episodes behind it"
    assert batch.num_tokens == sum(episode.num_sampled for group in groups for episode in group.completions)
    turns = [row["turns"] for row in sample_rows(0, "train", groups)]
    assert [len(each) for each in turns] == [1, 1, 3, 3, 3, 3]


async def test_an_environment_that_goes_wrong_costs_its_episodes_alone(
    config: RunConfig, tasks: list[Problem], engine: TorchEngine, adapter: Adapter, environments: Environments,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    groups = await play(config, [tasks[3], tasks[4], tasks[6], tasks[0]], engine, adapter, environments, size=1)
    endings = [getattr(group.completions[0], "ending", None) for group in groups]
    assert endings == ["crashed", "timeout", "crashed", "done"]
    assert [group.rewards[0].outcome for group in groups] == [
        Outcome.CRASHED, Outcome.TIMEOUT, Outcome.CRASHED, Outcome.CORRECT,
    ]  # fmt: skip
    assert "KeyError: 'no such move'" in caplog.text
    assert "said nothing for 10 s, more than episodes.step_timeout" in caplog.text


async def test_one_that_blocks_its_process_is_killed_and_the_others_in_it_are_played_again(
    config: RunConfig, tasks: list[Problem], engine: TorchEngine, adapter: Adapter, environments: Environments
) -> None:
    (before,) = await play(config, [tasks[1]], engine, adapter, environments, size=1)
    after, blocked = await play(config, [tasks[1], tasks[5]], engine, adapter, environments, size=1)
    assert getattr(blocked.completions[0], "ending", None) == "timeout"
    assert after == before, "with the same seeds it is the same episode"


async def test_a_run_killed_and_resumed_equals_one_never_stopped(
    config: RunConfig, tasks: list[Problem], environments: Environments, tmp_path: Path
) -> None:
    async def run(name: str, *, resume: bool = False, sinks: Sequence[Sink] = ()) -> RunDirectory:
        directory = RunDirectory.open(tmp_path / name) if resume else RunDirectory.create(tmp_path / name, config)
        learner = TorchLearner("run", config.model, config.lora, config.learner, temperature=1.0, seed=config.seed)
        engine = TorchEngine(config.model, config.lora)
        sampler: Sampler = player_of(config, engine, environments)
        encode = encoder_of(config, load_tokenizer(config.model))
        parts = Components(learner, engine, SameTextGrader(), encode, PolicyChecker(0.2), sampler=sampler)
        journal = FileJournal(directory, Sinks(sinks), resume=resume)
        await train(config, Split(tuple(tasks[:2]), (tasks[2],)), parts, journal)
        return directory

    whole = await run("whole")
    with pytest.raises(Killed):
        await run("stopped", sinks=[Bomb(0)])
    resumed = await run("stopped", resume=True)
    liveness = "policy/sampler", "policy/distance"  # a resumed run checks once more
    kept = [
        [{n: v for n, v in row.items() if not n.startswith(liveness)} for row in timeless(d)] for d in (whole, resumed)
    ]
    assert kept[0] == kept[1]
    assert whole.samples_file.read_text() == resumed.samples_file.read_text()


async def test_it_is_one_source_of_several(
    config: RunConfig, tasks: list[Problem], engine: TorchEngine, adapter: Adapter, environments: Environments,
    tmp_path: Path,
) -> None:  # fmt: skip
    assert isinstance(config.data, Verifiers)
    game = {**dict(config.data), "label": "game", "episodes": config.episodes}
    sums = {"source": "addition", "label": "sums", "digits": 1, "num_train": 20, "num_held_out": 2}
    changes: dict[str, Any] = {"episodes": EpisodesConfig(), "prompt": {"system": "add"}}
    mixed = replaced(config, data=[sums, game], **changes)
    split = load_problems(mixed.data, 0, Path())
    asked = [next(p for p in split.train if p.source == source) for source in ("sums", "game")]
    assert len([problem for problem in split.train if problem.source == "game"]) == 7
    encode, opened = encoder_of(mixed, load_tokenizer(mixed.model)), list[RunConfig]()

    def open_once(own: RunConfig) -> Environments:
        opened.append(own)
        return environments

    sampler = sampler_of(mixed, engine, open_once)
    asked[1] = replace(asked[1], id="game/1", metadata=tasks[1].metadata)
    questions = [Question(i, problem, encode(problem), 100 + 2 * i) for i, problem in enumerate(asked)]
    groups, _ = await sample_groups(questions, adapter, mixed.sampling, engine, SameTextGrader(), sampler)
    tokenizer: Any = load_tokenizer(config.model)
    texts = [tokenizer.decode(group.prompt) for group in groups]
    assert texts == [chat("system\nadd", f"user\n{asked[0].question}"), chat("system\ncount", "user\n1?")]
    assert not any(isinstance(completion, Episode) for completion in groups[0].completions)
    alone = await play(config, tasks[:2], engine, adapter, environments)
    assert groups[1].completions == alone[1].completions, "the same episode as in a run of its own"
    assert [own.data for own in opened] == [config.data]
    (tmp_path / "run.toml").write_text(dump_config(mixed))
    assert load_config(tmp_path / "run.toml") == mixed


@dataclass
class Scripted:
    """An engine that writes what it is told to, one turn after the other."""

    tokenizer: Any
    texts: list[str]

    async def sample(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        text = self.texts.pop(0)
        ids = tuple(self.tokenizer(f"{text}<|im_end|>", add_special_tokens=False)["input_ids"])
        plain = self.tokenizer.decode(ids, skip_special_tokens=True)
        return [[Completion(ids, (-1.0,) * len(ids), plain, "stop", adapter.version)]]


async def test_a_tool_is_called_and_its_answer_read(config: RunConfig, adapter: Adapter) -> None:
    config = replaced(
        config, data={"taskset": str(PRICES)}, episodes={"environment": f"verifiers:{PRICES}"},
        sampling={"max_tokens": 200},
    )  # fmt: skip
    data = {"idx": 0, "name": "apple", "item": "apple", "prompt": "What does apple cost?"}
    tokenizer: Any = load_tokenizer(config.model)
    call = '<tool_call>\n{"name": "price", "arguments": {"item": "apple"}}\n</tool_call>'
    environments = open_environments(config)
    try:
        problem = Problem("price_list/0", "What does apple cost?", "", {"task": data})
        engine = Scripted(tokenizer, [f"Let me see. {call}", "37"])
        (group,) = await play(config, [problem], engine, adapter, environments, size=1)
    finally:
        await environments.close()
    assert not [
        each for each in psutil.process_iter(["cmdline"]) if "price_list" in " ".join(each.info["cmdline"] or ())
    ]
    (episode,), (reward,) = group.completions, group.rewards
    assert isinstance(episode, Episode)
    assert (reward, episode.ending, episode.num_turns) == (Reward(1.0, Outcome.CORRECT), "done", 2)
    assert [turn["role"] for turn in episode.turns] == ["assistant", "tool", "assistant"]
    assert [turn["content"] for turn in episode.turns][1:] == ["37", "37"]
    prompt = tokenizer.decode(group.prompt)
    assert '"name": "price"' in prompt
    assert "The price of an item." in prompt
    said = f"Let me see. {call}<|im_end|>", "37<|im_end|>"
    answer = chat("user\n<tool_response>\n37\n</tool_response>").join(said)
    assert tokenizer.decode(episode.token_ids) == answer.replace("<|im_end|><|im_start|>", "<|im_end|>\n<|im_start|>")
    own = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in said]
    mask = episode.loss_mask or ()
    assert (mask[: own[0]], mask[-own[1] :], sum(mask)) == ((True,) * own[0], (True,) * own[1], sum(own))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"taskset": "other"}}, 'data.taskset = "/.*verifiers_games.py"$'),
        ({"episodes": {"environment": None}}, "plays the tasks of its own taskset"),
        ({"prompt": {"system": "Be brief."}}, "brings its messages: leave them out"),
        ({"prompt": {"chat_template": False}}, "plays a chat: set prompt.chat_template = true"),
        ({"episodes": {"tools": ("python",)}}, "set one of them"),
    ],
)
def test_settings_that_do_not_go_with_it_are_refused(config: RunConfig, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replaced(config, **changes)


def test_what_verifiers_cannot_load_is_refused_in_one_line(config: RunConfig, tmp_path: Path) -> None:
    assert isinstance(config.data, Verifiers)
    (tmp_path / "not_verifiers").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "not_verifiers").chmod(0o755)
    for changes, message in (
        (
            {"python": "no/such/python"},
            "data.python: there is no program 'no/such/python' on .*pip install verifiers==0.4.0.*, or name another; .*VERIFIERS_PYTHON",
        ),
        ({"python": str(tmp_path / "not_verifiers")}, "cannot load .*: it exited with 3"),
        ({"taskset": "nowhere.py"}, "there is no file 'nowhere.py'"),
    ):
        with pytest.raises(ValueError, match=message):
            load_verifiers(replaced(config.data, **changes), 0, Path())
