"""Episodes on the torch engine, with environments in processes of their own: tokens, masks, failures and resuming."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from copy import deepcopy
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from helpers.fakes import RIGHT, WRONG, SameTextGrader
from helpers.loop import Bomb, Killed, parts_of, timeless
from helpers.torch_learner import TorchLearner

from lora.base.tokenizer import load_tokenizer
from lora.types import Adapter
from rewards.types import Outcome, Problem, Reward
from rl.algorithm.batch.counted import is_masked
from rl.algorithm.batch.packing import build_batch
from rl.algorithm.evaluation.held_out import summarise
from rl.algorithm.metrics import group_metrics
from rl.algorithm.sampling.groups import Question, Sampler, sample_groups
from rl.algorithm.sampling.seeds import turn_seed
from rl.config import RunConfig, replaced
from rl.data import load_problems
from rl.episodes.environment import Message, Observation
from rl.episodes.environments.factory import EnvironmentFactory
from rl.episodes.environments.pool import EnvironmentPool
from rl.episodes.environments.worker import Call, checked
from rl.episodes.open import Environments, check_episodes, open_player, player_of
from rl.episodes.trial import try_environment
from rl.episodes.turns.episode import GrowingEpisode
from rl.episodes.turns.player import EpisodePlayer
from rl.episodes.turns.render import Renderer
from rl.launch.train_recipe import TRAIN
from rl.run.directory import RunDirectory
from rl.run.evaluation_report import completion_rows, html
from rl.run.journal import FileJournal, sample_rows
from rl.run.sinks import Sink, Sinks
from rl.settings.toml import load_config
from rl.train import train
from rl.types import Ending, Episode, Group
from rollout.config import SamplingConfig
from rollout.torch.engine import TorchEngine
from rollout.types import Completion, Place

EXAMPLES = Path(__file__).parents[3] / "examples"
CONFIG = replaced(
    load_config(EXAMPLES / "guess.toml"),
    episodes={"environment": str(EXAMPLES / "guess.py") + ":Guess", "workers": 1, "step_timeout": 20.0},
    sampling={"group_size": 3, "max_tokens": 2},
)
ADAPTER = Adapter("run", 0, b"")
PROBLEMS = [Problem(str(i), f"game {i}: ", str(1 + i % 7)) for i in range(3)]


class Listening(TorchEngine):
    """Keeps what was sampled, by the prompt's seed and its place in the call."""

    asked: dict[tuple[int, int], tuple[list[int], SamplingConfig, list[Completion], int]]

    async def sample(self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int], top_logprobs: int = 0) -> list[list[Completion]]:  # fmt: skip
        groups = await super().sample(prompts, adapter, sampling, seeds=seeds)
        for place, (prompt, seed, group) in enumerate(zip(prompts, seeds, groups, strict=True)):
            assert (seed, place) not in self.asked, "no seed is drawn from twice"
            self.asked[seed, place] = (list(prompt), sampling, group, adapter.version)
        return groups


def questions() -> list[Question]:
    tokenizer: Any = load_tokenizer(CONFIG.model)
    return [Question(10 + i, p, tokenizer(p.question)["input_ids"], 100 + 3 * i) for i, p in enumerate(PROBLEMS)]


@pytest.fixture(scope="module")
def engine() -> Listening:
    return Listening(CONFIG.model, CONFIG.lora)


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    learner = TorchLearner("run", CONFIG.model, CONFIG.lora, CONFIG.learner, temperature=1.0, seed=0)
    return asyncio.run(learner.publish())


async def played(player: Sampler, adapter: Adapter) -> dict[Place, Episode]:
    ended: dict[Place, Episode] = {}
    async for place, episode in player.stream(questions(), adapter, CONFIG.sampling):
        assert isinstance(episode, Episode)
        assert place not in ended
        ended[place] = episode
    return ended


class Echo:
    """Answers with the number of the turn, kept between turns, and its seed's last digit; never ends by itself."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.turns, self.seed = 0, seed

    async def step(self, messages: list[Message]) -> Observation:
        self.turns += 1
        assert messages[-1]["role"] == "assistant"
        assert len(messages) == 2 * self.turns, "the problem's, and two for each turn before"
        return Observation(f"{self.turns}{self.seed % 10}", reward=0.25)


async def play_with(make: Any, engine: Listening, adapter: Adapter, **episodes: Any) -> dict[Place, Episode]:
    config = replaced(CONFIG, episodes=episodes)
    environments = EnvironmentPool(EnvironmentFactory("made.py:made", make, (__name__,)), config.episodes)
    engine.asked = {}
    try:
        return await played(player_of(config, engine, Environments(environments, None)), adapter)
    finally:
        await environments.close()


async def test_an_episodes_tokens_are_a_prefix_chain_and_its_mask_is_exact(engine: Listening, adapter: Adapter) -> None:
    ended = await play_with(Echo, engine, adapter, max_turns=3)
    assert sorted(ended) == [(i, k) for i in range(3) for k in range(3)]
    assert {version for *_, version in engine.asked.values()} == {adapter.version}
    tokenizer: Any = load_tokenizer(CONFIG.model)
    for (index, place), episode in ended.items():
        question = questions()[index]
        assert (episode.ending, episode.finish_reason, episode.num_turns) == ("turns", "length", 3)
        assert episode.reward == Reward(0.75, Outcome.CORRECT)
        assert [turn["role"] for turn in episode.turns] == ["assistant", "user"] * 3
        tokens, logprobs, mask = list[int](), list[float](), list[bool]()
        for number in range(3):
            seed = turn_seed(question.seed, place, number) if number else question.seed
            prompt, sampling, turns, _ = engine.asked[seed, index if number == 0 else 0]
            written = turns[place if number == 0 else 0]
            assert (sampling.group_size, sampling.max_tokens) == ((1, 2) if number else (3, 2))
            if number:
                answer = f"{number}{(question.seed + place) % 10}"
                assert episode.turns[2 * number - 1]["content"] == answer
                end = "" if tokens[-1] == tokenizer.eos_token_id else "<eos>"  # its end, if the policy wrote none
                behind = tokenizer(end + answer)["input_ids"]
                tokens, logprobs, mask = tokens + behind, logprobs + [0.0] * len(behind), mask + [False] * len(behind)
            assert prompt == [*question.prompt, *tokens], "every turn is behind all that was written and read before it"
            assert episode.turns[2 * number]["content"] == written.text
            tokens, logprobs = [*tokens, *written.token_ids], [*logprobs, *written.logprobs]
            mask += [True] * len(written.token_ids)
        assert (list(episode.token_ids), list(episode.logprobs)) == (tokens, logprobs)
        assert list(episode.loss_mask or ()) == mask
        scores = (await engine.score([[*question.prompt, *tokens]], adapter))[0][len(question.prompt) - 1 :]
        for score, logprob, own in zip(scores, logprobs, mask, strict=True):
            assert not own or logprob == pytest.approx(score, abs=1e-4)


class Once:
    """Ends an episode at once, and leaves the grade to the grader."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def step(self, messages: list[Message]) -> dict[str, Any]:
        return {"messages": self.problem.answer, "done": True}


async def test_an_episode_of_one_turn_is_a_completion_bit_for_bit(engine: Listening, adapter: Adapter) -> None:
    ended = await play_with(Once, engine, adapter)
    asked, prompts = questions(), [question.prompt for question in questions()]
    engine.asked = {}
    plain = await engine.sample(prompts, adapter, CONFIG.sampling, seeds=[question.seed for question in asked])
    for index, group in enumerate(plain):
        for place, completion in enumerate(group):
            episode = ended[index, place]
            names = ("token_ids", "logprobs", "text", "finish_reason", "policy_version", "loss_mask")
            assert [getattr(episode, n) for n in names] == [getattr(completion, n) for n in names]
            assert (episode.ending, episode.reward) == ("done", None)
            assert [turn["content"] for turn in episode.turns] == [completion.text, asked[index].problem.answer]
    rewards = [RIGHT, WRONG, WRONG]
    graded = [Group(q.problem, q.prompt, list(c), rewards) for q, c in zip(asked, plain, strict=True)]
    episodes = [replace(g, completions=[ended[i, k] for k in range(3)]) for i, g in enumerate(graded)]
    values = [[1.0, 0.0, -1.0]] * 3
    for one, other in zip(build_batch(graded, values, 999).rows, build_batch(episodes, values, 999).rows, strict=True):
        for name in ("token_ids", "position_ids", "segment_ids", "predictors", "targets", "rollout_logprobs"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


class Failing:
    """Fails in a way that its seed says: hangs, dies, raises, keeps what cannot be kept; others go on to the end."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.way = seed % 9

    def step(self, messages: list[Message]) -> Observation:
        import os
        import threading
        import time

        if self.way == 0:
            time.sleep(60)
        if self.way == 1:
            os._exit(3)
        if self.way == 2:
            raise KeyError("no such move")
        if self.way == 3:
            self.lock = threading.Lock()
        if self.way == 4:
            return Observation(reward=float("nan"))
        if self.way == 5:
            bytearray(2**33)
        return Observation("1", done=len(messages) > 2, reward=1.0)


async def test_a_step_that_fails_costs_its_episode_alone(engine: Listening, adapter: Adapter) -> None:
    config = replaced(CONFIG, episodes={"step_timeout": 2.0, "memory_mb": 1024})
    pool = EnvironmentPool(EnvironmentFactory("made.py:Failing", Failing, (__name__,)), config.episodes)
    engine.asked = {}
    try:
        player = player_of(config, engine, Environments(pool, None))
        groups, _ = await sample_groups(questions(), adapter, config.sampling, engine, SameTextGrader(), player)
    finally:
        await pool.close()
    episodes = {(100 + 3 * i + k) % 9: c for i, g in enumerate(groups) for k, c in enumerate(g.completions)}
    endings = [e.ending for _, e in sorted(episodes.items()) if isinstance(e, Episode)]
    assert endings == ["timeout", "crashed", "crashed", "crashed", "crashed", "timeout", "done", "done", "done"]
    outcomes = {(100 + 3 * i + k) % 9: r for i, g in enumerate(groups) for k, r in enumerate(g.rewards)}
    assert [outcomes[way].outcome for way in range(9)] == [
        Outcome.TIMEOUT, *[Outcome.CRASHED] * 4, Outcome.TIMEOUT, *[Outcome.CORRECT] * 3
    ]  # fmt: skip
    metrics = group_metrics(groups, [[0.0] * 3] * 3, 0)
    assert metrics["episode/ended/crashed"] == pytest.approx(4 / 9)
    assert metrics["episode/ended/timeout"] == pytest.approx(2 / 9)
    assert metrics["episode/turns_mean"] == pytest.approx(12 / 9)
    assert {row["ending"] for row in sample_rows(0, "train", groups)} == {"timeout", "crashed", "done"}


class Odd:
    """Costs something in each turn; of the seeds 100 and 101, the last turn hangs and is answered as another role."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.way = seed - 100

    def step(self, messages: list[Message]) -> Observation:
        import time

        last = len(messages) > 2
        if last and self.way == 0:
            time.sleep(60)
        role = "referee" if last and self.way == 1 else "user"
        return Observation([{"role": role, "content": "1"}], done=last and self.way > 1, reward=-0.25)


async def test_refused_messages_cost_their_episode_and_a_time_out_pays_no_more_than_what_there_was(
    engine: Listening, adapter: Adapter
) -> None:
    tokenizer: Any = deepcopy(load_tokenizer(CONFIG.model))
    refusal = "{{ raise_exception('no referees') if messages | selectattr('role', 'eq', 'referee') | list }}"
    tokenizer.chat_template = refusal + tokenizer.chat_template
    config = replaced(CONFIG, episodes={"step_timeout": 3.0})
    pool = EnvironmentPool(EnvironmentFactory("made.py:Odd", Odd, (__name__,)), config.episodes)
    engine.asked = {}
    try:
        ended = await played(EpisodePlayer(config.episodes, engine, pool, Renderer(tokenizer, config.prompt)), adapter)
    finally:
        await pool.close()
    by_way = {3 * index + place: (episode.ending, episode.reward) for (index, place), episode in ended.items()}
    assert by_way == {
        0: ("timeout", Reward(-0.25, Outcome.TIMEOUT)),
        1: ("crashed", Reward(-0.5, Outcome.CRASHED)),
        **{way: ("done", Reward(-0.5, Outcome.WRONG)) for way in range(2, 9)},
    }


class Starting:
    """Starts threads and other processes, one of them in a session of its own and without a parent, and hangs or dies."""

    def __init__(self, problem: Problem) -> None:
        self.file = problem.answer
        self.dies = problem.id == "dies"

    def step(self, messages: list[Message]) -> Observation:
        import os
        import subprocess
        import threading
        import time

        for _ in range(50):
            threading.Thread(target=time.sleep, args=(60,)).start()
        program = f"sleep 1000 & echo $! > {self.file}; setsid sleep 1000 < /dev/null & echo $! >> {self.file}"
        subprocess.run(["sh", "-c", program], start_new_session=True, check=True)
        if self.dies:
            os._exit(3)
        time.sleep(60)
        return Observation()


@pytest.mark.parametrize(("name", "failure"), [("hangs", "timeout"), ("dies", "crashed")])
async def test_a_step_that_hangs_or_dies_takes_with_it_what_it_started(tmp_path: Path, name: str, failure: str) -> None:
    config = replaced(CONFIG.episodes, step_timeout=3.0)
    pool = EnvironmentPool(EnvironmentFactory("made.py:Starting", Starting, (__name__,)), config)
    call = Call(Problem(name, "", str(tmp_path / "pids")), 0, None, ({"role": "assistant", "content": "go"},))
    try:
        assert (await pool.answer(call)).failure == failure
    finally:
        await pool.close()
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    for _ in range(1000):  # they are dying
        if not any(map(lives, pids)):
            break
        await asyncio.sleep(0.01)
    assert not any(map(lives, pids))


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Speaker(StrEnum):
    """A role that only its own file knows."""

    USER = "user"


def test_an_answer_is_of_plain_values_that_any_process_tokenizer_and_file_takes() -> None:
    (message,) = checked(
        Observation([{"role": Speaker.USER, "content": "a\ud800b", "seen": [1, {"\udfff": 2}]}])
    ).listed()
    assert message == {"role": "user", "content": "a?b", "seen": [1, {"?": 2}]}
    assert type(message["role"]) is str
    for wrong in ({1}, float("nan"), object()):
        with pytest.raises(ValueError, match="cannot be written as JSON"):
            checked(Observation([{"role": "user", "content": "a", "more": wrong}]))
    with pytest.raises(ValueError, match="more than 1048576 characters"):
        checked(Observation("a" * 2**20))


async def test_a_budget_of_tokens_ends_an_episode_and_counts_the_environments(
    engine: Listening, adapter: Adapter
) -> None:
    ended = await play_with(Echo, engine, adapter, max_turns=9, max_tokens=6)
    assert {episode.ending for episode in ended.values()} == {"tokens"}
    assert all(len(episode.token_ids) <= 6 for episode in ended.values())
    assert all(episode.finish_reason == "length" for episode in ended.values())
    assert any(sampling.max_tokens == 1 for _, sampling, _, _ in engine.asked.values()), (
        "the last turn has what is left"
    )


@pytest.mark.parametrize(
    ("ending", "earned", "outcome"),
    [
        ("done", 0.0, Outcome.WRONG), ("turns", 0.0, Outcome.TRUNCATED), ("tokens", -1.0, Outcome.TRUNCATED),
        ("turns", 0.5, Outcome.CORRECT), ("timeout", 0.5, Outcome.TIMEOUT),
    ],
)  # fmt: skip
def test_an_episode_that_a_budget_ends_is_truncated_unless_it_has_earned_something(
    ending: Ending, earned: float, outcome: Outcome
) -> None:
    episode = GrowingEpisode([])
    episode.add_turn(Completion((3,), (-1.0,), "5", "stop", 0))
    episode.add_observation(Observation("no", reward=earned))
    ended = episode.ended(ending)
    assert ended.reward is not None
    assert ended.reward.outcome is outcome
    group = Group(PROBLEMS[0], [1], [ended], [ended.reward])
    assert is_masked(ended, "mask") is (ending in ("turns", "tokens"))
    assert group_metrics([group], [[0.0]], 0)["completion/truncated_fraction"] == is_masked(ended, "mask")
    assert summarise([group]).metrics()["eval/accuracy"] == (outcome is Outcome.CORRECT)


FAULTY = """
class Faulty:
    def __init__(self, problem):
        self.kept = None

    def step(self, messages):
        {first}
        if len(messages) > 2:
            {second}
        return {{"messages": "go on"}}
"""


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("pass", "return undefined", r"NameError: name 'undefined' is not defined \(File .*faulty.py\", line 9, in step\)"),
        ("import threading; self.kept = threading.Lock()", "pass", "ValueError: the environment cannot be kept until"),
        ("import time; time.sleep(60)", "pass", r"took .* s, more than episodes.step_timeout, and was at: .* line 7 "),
        ("import os; os._exit(3)", "pass", "its process exited with status 3"),
        ("return 1", "pass", "ValueError: step returned int, not an Observation$"),
        ("pass", "pass", ""),
    ],
)  # fmt: skip
async def test_an_environment_is_tried_before_a_model_is_loaded(
    tmp_path: Path, first: str, second: str, message: str
) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY.format(first=first, second=second))
    timeout = 2.0 if "sleep" in first else 60.0
    episodes = {"environment": f"{tmp_path / 'faulty.py'}:Faulty", "step_timeout": timeout}
    trial = try_environment(replaced(CONFIG, episodes=episodes), PROBLEMS[0])
    if not message:
        await trial
        return
    with pytest.raises(ValueError, match=f"Faulty failed on a trial turn, '1': {message}") as refused:
        await trial
    assert "\n" not in str(refused.value)


DRAWING = """
import random


class Drawing:
    def __init__(self, problem, seed):
        self.random = random.Random(seed)

    def step(self, messages):
        score = sum(map(ord, messages[-1]["content"])) % 5
        return {"messages": str(self.random.randrange(10)), "done": self.random.random() < 0.2, "reward": score / 5}
"""
"""An environment that draws, and keeps its generator between turns; most texts have another reward."""


async def run(config: RunConfig, path: Path, *, resume: bool = False, sinks: Sequence[Sink] = ()) -> RunDirectory:
    directory = RunDirectory.open(path) if resume else RunDirectory.create(path, config)
    parts = parts_of(config, SameTextGrader())
    async with open_player(config, parts.engine) as sampler:
        problems = load_problems(config.data, config.seed, EXAMPLES)
        journal = FileJournal(directory, Sinks(sinks), resume=resume)
        await train(config, problems, replace(parts, sampler=sampler), journal)
    return directory


async def test_a_run_with_an_environment_killed_and_resumed_equals_one_never_stopped(tmp_path: Path) -> None:
    (tmp_path / "drawing.py").write_text(DRAWING)
    config = replaced(
        CONFIG, num_steps=3, problems_per_step=4, sampling={"group_size": 4},
        episodes={"environment": f"{tmp_path / 'drawing.py'}:Drawing"},
        evaluate={"every": 2, "num_problems": 4, "temperature": 1.0},
    )  # fmt: skip
    whole = await run(config, tmp_path / "whole")
    with pytest.raises(Killed):
        await run(config, tmp_path / "stopped", sinks=[Bomb(1)])
    resumed = await run(config, tmp_path / "stopped", resume=True)
    liveness = "policy/sampler", "policy/distance"  # a resumed run checks once more
    kept = [
        [{n: v for n, v in row.items() if not n.startswith(liveness)} for row in timeless(d)] for d in (whole, resumed)
    ]
    assert kept[0] == kept[1]
    assert whole.samples_file.read_text() == resumed.samples_file.read_text()
    assert '"turns": [{"role": "assistant"' in whole.samples_file.read_text()
    assert all(row["episode/turns_mean"] > 1 for row in kept[0][:3])
    assert all(row["update/tokens"] > 0 for row in kept[0][:3])


async def test_the_stream_ends_what_is_under_way_when_nobody_listens(engine: Listening, adapter: Adapter) -> None:
    config = replaced(CONFIG, episodes={"step_timeout": 30.0})
    pool = EnvironmentPool(EnvironmentFactory("made.py:Failing", Failing, (__name__,)), config.episodes)
    engine.asked = {}
    try:
        stream: AsyncGenerator[Any] = player_of(config, engine, Environments(pool, None)).stream(
            questions(), adapter, config.sampling
        )
        await anext(stream)
        await stream.aclose()
        assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    finally:
        await pool.close()
    assert pool.pids == []


def test_a_report_shows_an_episode_turn_by_turn_as_text() -> None:
    episode = GrowingEpisode([])
    episode.add_turn(Completion((3,), (-1.0,), "<i>5</i>", "stop", 0))
    episode.add_observation(Observation("<b>lower</b>"))
    episode.add_tokens([8, 9])
    episode.add_turn(Completion((4,), (-1.0,), "4", "stop", 0))
    group = Group(PROBLEMS[0], [1], [episode.ended("done")], [WRONG])
    page = html(summarise([group]), [])
    shown = ['<pre class="other">&lt;i&gt;5&lt;/i&gt;</pre>', '<pre class="environment">&lt;b&gt;lower&lt;/b&gt;</pre>']
    assert "".join([*shown, '<pre class="other">4</pre>']) in page
    (row,) = completion_rows([group])
    assert [turn["content"] for turn in row["turns"]] == ["<i>5</i>", "<b>lower</b>", "4"]
    assert (row["num_tokens"], row["completion"], row["ending"]) == (2, "4", "done")


def test_answers_that_are_for_an_environment_need_not_be_mathematics(tmp_path: Path) -> None:
    rows = [f'{{"question": "move {i}", "answer": "play e{i}, then d{i}!"}}\n' for i in range(4)]
    (tmp_path / "moves.jsonl").write_text("".join(rows))
    config = replaced(CONFIG, data={"train": "moves.jsonl", "num_held_out": 2}, problems_per_step=2)
    assert len(TRAIN.prepare(config, tmp_path).problems.train) == 2
    with pytest.raises(ValueError, match="cannot read 4 of 4 answers"):
        TRAIN.prepare(replaced(config, episodes={"environment": None}), tmp_path)


def test_no_turn_has_the_seed_of_another_or_of_a_completion() -> None:
    seeds = {turn_seed(group, place, turn) for group in range(0, 40, 4) for place in range(4) for turn in range(1, 5)}
    assert len(seeds) == 10 * 4 * 4
    assert min(seeds) >= 2**32
    assert max(turn_seed(2**32 - 1, 4095, 4096) for _ in "1") < 2**63


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"environment": "none.py:Guess"}, "environment file .*none.py does not exist"),
        ({"environment": f"{EXAMPLES / 'guess.py'}:Gess"}, "has no class 'Gess'; it defines: Guess"),
        ({"environment": "guess"}, "is not 'file.py:name'"),
        ({"environment": "verifiers:gsm8k"}, 'data.source = "verifiers" and data.taskset = "gsm8k"'),
        ({"max_tokens": 1}, "episodes.max_tokens = 1 is below the 2 tokens"),
        ({"max_tokens": 64}, "episodes.max_tokens must be below model.max_length"),
        ({"tools": ("python",)}, "set one of them"),
    ],
)
async def test_what_cannot_be_played_is_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        check_episodes(replaced(CONFIG, episodes=settings), load_tokenizer(CONFIG.model))
    assert "\n" not in str(refused.value)
