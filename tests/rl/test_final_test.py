"""Problems that are for the end of a run: nobody sees them before, and the best policy answers them once."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.fakes import problem
from helpers.loop import EXAMPLE, SMALL, EagerGrader, configuration, parts_of

from lora.types import Adapter
from rl.algorithm.sampling.seeds import evaluation_seeds, group_seeds
from rl.config import Addition, RunConfig, replaced
from rl.data import Split, load_problems
from rl.data.evaluation_sets import absolute_files, load_evaluation_sets
from rl.data.split import set_test_apart
from rl.jobs.package import JobPackage
from rl.remote.learner import check_config
from rl.run.directory import RunDirectory
from rl.run.journal import FileJournal
from rl.run.jsonl import read_samples
from rl.run.sinks import Sinks
from rl.settings.toml import dump_config, load_config
from rl.train import train
from rollout.config import SamplingConfig
from rollout.torch.engine import TorchEngine
from rollout.types import Completion

SPLIT = Split((problem("t"),), tuple(problem(str(i)) for i in range(20)))


def test_they_are_a_seeded_part_of_what_is_held_out() -> None:
    first, again, other = (set_test_apart(SPLIT, 6, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert (len(first.test), len(first.held_out), first.train) == (6, 14, SPLIT.train)
    assert {p.id for p in (*first.test, *first.held_out)} == {p.id for p in SPLIT.held_out}
    twins = replace(SPLIT, held_out=(*SPLIT.held_out, *SPLIT.held_out))
    shared = set_test_apart(twins, 6, 0)
    assert {p.question for p in shared.test}.isdisjoint(p.question for p in shared.held_out)
    with pytest.raises(ValueError, match="num_test = 20 leaves nothing of 20 held-out problems"):
        set_test_apart(SPLIT, 20, 0)


def test_no_answer_to_them_draws_from_the_stream_of_another() -> None:
    config = configuration("evaluate.samples_per_problem=3", "evaluate.num_problems=8", "evaluate.temperature=1.0")
    asked = evaluation_seeds(config, 8) + evaluation_seeds(config, 5, first=8)
    assert asked == evaluation_seeds(config, 13)
    asked_once = replaced(config, evaluate={"num_test": 5})
    assert asked_once.num_completions == config.num_completions + 15


async def test_the_best_policy_answers_them_once_at_the_end(tmp_path: Path) -> None:
    config = configuration(*SMALL, "num_steps=3", "evaluate.every=1", "evaluate.num_test=10")
    problems = load_problems(config.data, config.seed, EXAMPLE.parent, config.evaluate.num_test)
    parts = parts_of(config, EagerGrader())
    answered: list[tuple[int, bytes]] = []

    class Listening(TorchEngine):
        async def sample(
            self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
        ) -> list[list[Completion]]:
            answered.append((len(prompts), adapter.payload))
            return await super().sample(prompts, adapter, sampling, seeds=seeds)

    directory = RunDirectory.create(tmp_path / "run", config)
    journal = FileJournal(directory, Sinks([]), resume=False)
    await train(config, problems, replace(parts, engine=Listening(config.model, config.lora)), journal)
    rows, samples = directory.metrics(), list(read_samples(directory.samples_file))
    assert [row["step"] for row in rows if "test/accuracy" in row] == [3]
    assert {"test/accuracy_low", "test/accuracy_high", "time/test_s"} <= rows[-1].keys()
    seen = {
        split: {row["problem"] for row in samples if row["split"] == split} for split in ("train", "held_out", "test")
    }
    assert seen["test"] == {p.id for p in problems.test}
    assert seen["test"].isdisjoint(seen["train"] | seen["held_out"])
    best = journal.best()
    assert best is not None
    assert [payload for count, payload in answered if count == 10] == [best.payload]
    step = max((row for row in rows if "eval/accuracy" in row), key=lambda row: row["eval/accuracy"])["step"]
    held_out = {row["policy_version"] for row in samples if row["split"] == "held_out" and row["step"] == step}
    assert {row["policy_version"] for row in samples if row["split"] == "test"} == {best.version} == held_out


# --- other sets ---

ROWS = {
    "plain.jsonl": {"question": "1 + 1 =", "answer": "2"},
    "gsm8k.jsonl": {"question": "One and two?", "answer": "It is 1 + 2.\n#### 3"},
    "aime.jsonl": {"problem": "Find $2^2$.", "answer": 4, "year": 2024},
    "math.jsonl": {"problem": "Find $5$.", "solution": "So $\\boxed{5}$."},
}
SETS: tuple[dict[str, str], ...] = (
    {"name": "plain", "file": "plain.jsonl"},
    {"name": "gsm8k", "file": "gsm8k.jsonl", "layout": "gsm8k"},
    {"name": "aime", "file": "aime.jsonl", "layout": "math"},
    {"name": "math", "file": "math.jsonl", "layout": "math"},
)


@pytest.fixture
def sets(tmp_path: Path) -> RunConfig:
    """Return a configuration of four sets, whose files lie in `tmp_path`."""
    for name, row in ROWS.items():
        (tmp_path / name).write_text(json.dumps(row) + "\n", encoding="utf-8")
    return replaced(configuration(*SMALL, "num_steps=1", "evaluate.num_test=2"), evaluate={"sets": SETS})


def test_every_layout_is_read_by_its_name_and_goes_along_with_a_job(sets: RunConfig, tmp_path: Path) -> None:
    loaded = load_evaluation_sets(sets.evaluate, tmp_path, ())
    assert [(name, problem.answer) for name, (problem,) in loaded] == [
        ("plain", "2"), ("gsm8k", "3"), ("aime", "4"), ("math", "5"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"also in the training set.*evaluate\.sets 'plain'"):
        load_evaluation_sets(sets.evaluate, tmp_path, loaded[0][1])
    (tmp_path / "job").mkdir()
    sent = JobPackage(tmp_path / "job", tmp_path).add(replaced(sets, data=Addition())).evaluate
    assert load_evaluation_sets(sent, tmp_path / "job", ()) == loaded
    absolute = absolute_files(sets.evaluate, tmp_path)
    assert load_evaluation_sets(absolute, Path("/"), ()) == loaded
    assert load_config_of(dump_config(sets), tmp_path).evaluate == sets.evaluate


def load_config_of(text: str, folder: Path) -> RunConfig:
    (folder / "config.toml").write_text(text, encoding="utf-8")
    return load_config(folder / "config.toml")


async def test_every_evaluation_answers_all_sets_from_seeds_of_their_own(sets: RunConfig, tmp_path: Path) -> None:
    split = load_problems(sets.data, sets.seed, EXAMPLE.parent, 2)
    problems = replace(split, sets=load_evaluation_sets(sets.evaluate, tmp_path, split.train))
    asked: list[int] = []

    class Listening(TorchEngine):
        async def sample(
            self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
        ) -> list[list[Completion]]:
            asked.extend(seeds)
            return await super().sample(prompts, adapter, sampling, seeds=seeds)

    directory = RunDirectory.create(tmp_path / "run", sets)
    parts = replace(parts_of(sets, EagerGrader()), engine=Listening(sets.model, sets.lora))
    await train(sets, problems, parts, FileJournal(directory, Sinks([]), resume=False))
    for row in directory.metrics():
        assert {f"eval/{each['name']}/accuracy" for each in SETS} <= row.keys()
        assert "eval/accuracy" in row
    every_evaluation = evaluation_seeds(sets, sets.evaluate.num_problems) + [
        seed for index in range(4) for seed in evaluation_seeds(sets, 1, first=8 * (1 + index) + 2)
    ]
    trained = set(group_seeds(sets, range(8)))
    assert Counter(asked) == Counter(
        dict.fromkeys(every_evaluation, 2) | dict.fromkeys((*trained, *evaluation_seeds(sets, 2, first=8)), 1)
    )


def test_sets_have_names_of_their_own() -> None:
    with pytest.raises(ValueError, match=r"evaluate\.sets need different names"):
        replaced(RunConfig(), evaluate={"sets": (SETS[0], SETS[0])})


def test_a_server_that_knows_no_best_policy_is_not_asked() -> None:
    with pytest.raises(ValueError, match=r"set evaluate\.num_test = 0, or train without --server"):
        check_config(configuration("evaluate.num_test=5"))
