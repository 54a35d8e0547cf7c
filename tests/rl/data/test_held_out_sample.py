"""Held-out problems that are looked at are a sample of all of them, however their file is sorted, and always the same."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from helpers.fakes import SameTextGrader, ScriptedEngine
from helpers.torch_learner import TorchLearner
from hypothesis import given
from hypothesis import strategies as st

from lora.types import Adapter
from rewards.types import Problem
from rl.algorithm.batch.demonstrations import Demonstration
from rl.algorithm.evaluation.held_out import evaluate
from rl.algorithm.liveness import NUM_SEQUENCES, PolicyChecker
from rl.config import RunConfig
from rl.data import Split, sample_held_out
from rl.settings.toml import load_config
from rl.sft import train_sft
from rl.train import Components, train
from rl.types import Learner
from rollout.torch.engine import TorchEngine

SORTED = tuple(Problem(str(i), f"question {i}", "1", {"level": i // 100}) for i in range(1000))
"""A file that begins with what is easy: a hundred problems a level."""
CONFIG = load_config(
    None,
    [
        "model.name=tiny-random", "model.dtype=float32", "model.max_length=64", "sampling.max_tokens=8", "num_steps=0",
        "evaluate.num_problems=100", 'rollout.engine="torch"', 'runtime="local"',
    ],
)  # fmt: skip
ADAPTER = Adapter("run", 0, b"")


def is_spread(levels: Sequence[int]) -> bool:
    """A hundred of a thousand: every level is there, none with more than a quarter."""
    counts = Counter(levels)
    return len(counts) == 10 and max(counts.values()) <= 25


def encode(problem: Problem) -> list[int]:
    """One token for problems 0 to 9, which no check of logprobs can use."""
    return [3 + int(digit) for digit in problem.id]


async def evaluated(config: RunConfig, problems: Sequence[Problem] = SORTED) -> list[Problem]:
    """Return the problems that an evaluation looks at."""
    measured = await evaluate(config, problems, ADAPTER, ScriptedEngine(["1"]), SameTextGrader(), encode)
    return [group.problem for group in measured.groups]


class SilentJournal:
    """Writes nothing down; keeps whom it was told of."""

    def __init__(self) -> None:
        self.metrics: Mapping[str, float] = {}

    async def restore(self, learner: Learner) -> int:
        return 0

    def history(self) -> Sequence[Mapping[str, Any]]:
        return []

    def unlearned(self) -> Sequence[int]:
        return ()

    def drawn(self) -> Mapping[str, Any]:
        return {}

    async def on_eval(self, *_: object) -> None: ...

    async def on_metrics(self, step: int, adapter: Adapter, metrics: Mapping[str, float], learner: Learner) -> None:
        self.metrics = metrics

    async def roll_back(self, learner: Learner) -> bool:
        return False

    def on_alarm(self, *_: object) -> None: ...

    def on_step(self, *_: object) -> None: ...

    async def checkpoint(self, *_: object) -> None: ...


@given(size=st.integers(1, 60), count=st.integers(1, 70), seed=st.integers(0, 2**32 - 1))
def test_a_sample_has_no_problem_twice_and_a_larger_one_holds_the_smaller(size: int, count: int, seed: int) -> None:
    pool = SORTED[:size]
    drawn = sample_held_out(pool, count, seed)
    assert len(drawn) == len({problem.id for problem in drawn}) == min(size, count)
    assert drawn == sample_held_out(pool, count, seed)
    assert drawn == sample_held_out(pool, count + 5, seed)[:count]


def test_every_problem_is_as_likely_as_any() -> None:
    pool = SORTED[:10]
    drawn = Counter(problem.id for seed in range(3000) for problem in sample_held_out(pool, 3, seed))
    assert len(drawn) == 10
    assert all(780 < count < 1020 for count in drawn.values())  # 900, and four standard deviations


async def test_an_evaluation_looks_at_all_levels_of_a_sorted_file() -> None:
    first = await evaluated(CONFIG)
    assert is_spread([problem.metadata["level"] for problem in first])
    assert await evaluated(CONFIG) == first, "the same at every evaluation"
    assert await evaluated(CONFIG.model_copy(update={"seed": 1})) != first
    everything = await evaluated(load_config(None, ["evaluate.num_problems=1000"]))
    assert sorted(everything, key=lambda problem: int(problem.id)) == list(SORTED)


@pytest.mark.parametrize("beside", ["nothing", "an evaluation"])
async def test_fine_tuning_measures_its_loss_on_what_an_evaluation_looks_at(beside: str) -> None:
    shown: list[Problem] = []

    def demonstrate(problem: Problem) -> Demonstration:
        shown.append(problem)
        return Demonstration(encode(problem), [3, 1])

    learner = TorchLearner("run", CONFIG.model, CONFIG.lora, CONFIG.learner, temperature=1.0, seed=0)
    split, journal = Split(train=SORTED[:1], held_out=SORTED), SilentJournal()
    if beside == "an evaluation":
        await evaluated(CONFIG)
    await train_sft(CONFIG, split, demonstrate, learner, journal)
    assert "eval/log_loss" in journal.metrics
    assert {problem.id for problem in shown} == {problem.id for problem in await evaluated(CONFIG)}


async def test_the_first_liveness_check_and_the_evaluation_of_a_run_are_samples() -> None:
    asked: list[Problem] = []

    def listening(problem: Problem) -> list[int]:
        asked.append(problem)
        return encode(problem)

    class Trusting(PolicyChecker):
        async def check(self, *_: object) -> dict[str, float]:
            return {}

    learner = TorchLearner("run", CONFIG.model, CONFIG.lora, CONFIG.learner, temperature=1.0, seed=0)
    parts = Components(learner, ScriptedEngine(["1"]), SameTextGrader(), listening, Trusting())
    await train(CONFIG, Split(train=SORTED[:1], held_out=SORTED), parts, SilentJournal())
    checked, rest = asked[:NUM_SEQUENCES], asked[NUM_SEQUENCES:]
    assert len({problem.metadata["level"] for problem in checked}) > 2
    assert rest == await evaluated(CONFIG)
    assert rest[:NUM_SEQUENCES] == checked


@pytest.mark.parametrize("held_out", [SORTED[:4], SORTED[8:12]])
async def test_prompts_of_one_token_do_not_end_a_run(held_out: tuple[Problem, ...]) -> None:
    learner = TorchLearner("run", CONFIG.model, CONFIG.lora, CONFIG.learner, temperature=1.0, seed=0)
    parts = Components(learner, TorchEngine(CONFIG.model, CONFIG.lora), SameTextGrader(), encode)
    adapter = await train(CONFIG, Split(train=SORTED[:1], held_out=held_out), parts, SilentJournal())
    assert adapter.version == 0
