"""Problems that are for the end of a run: nobody sees them before, and the best policy answers them once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.fakes import problem
from helpers.loop import EXAMPLE, SMALL, EagerGrader, configuration, parts_of

from lora.types import Adapter
from rl.algorithm.seeds import evaluation_seeds
from rl.config import replaced
from rl.data import Split, load_problems
from rl.data.split import set_test_apart
from rl.remote.learner import check_config
from rl.run.directory import RunDirectory
from rl.run.journal import FileJournal
from rl.run.jsonl import read_samples
from rl.run.sinks import Sinks
from rl.train import train
from rollout.config import SamplingConfig
from rollout.torch_engine import TorchEngine
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


def test_a_server_that_knows_no_best_policy_is_not_asked() -> None:
    with pytest.raises(ValueError, match=r"set evaluate\.num_test = 0, or train without --server"):
        check_config(configuration("evaluate.num_test=5"))
