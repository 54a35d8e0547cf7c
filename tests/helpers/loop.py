"""The loop on real parts in this process, graded in a way that a tiny policy can learn in a few steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers.fakes import RIGHT, WRONG
from helpers.torch_learner import TorchLearner

from lora.base.tokenizer import load_tokenizer
from rewards.types import Grader, Problem, Reward
from rl.config import RunConfig
from rl.data import Split, load_problems
from rl.data.prompts import Encoder
from rl.run.directory import RunDirectory
from rl.run.journal import FileJournal
from rl.run.sinks import Ended, Sink, Sinks
from rl.settings.toml import load_config
from rl.train import Components, train
from rollout.torch.engine import TorchEngine

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny.toml"
SMALL = ("problems_per_step=8", "sampling.group_size=4", "evaluate.every=2", "evaluate.num_problems=8", "num_steps=6")


class EagerGrader(Grader):
    """A grade that a policy of 30 characters can earn at once: right is what begins with a digit."""

    async def grade(
        self, problems: Sequence[Problem], texts_P_G: Sequence[Sequence[str]], _: object = None
    ) -> list[list[Reward]]:
        return [[RIGHT if text[:1].isdigit() else WRONG for text in texts] for texts in texts_P_G]

    async def close(self) -> None:
        """Nothing to release."""


class Killed(BaseException):
    """Stands for the end of the process."""


class Bomb(Sink):
    """Ends the run when a step is done, as a kill would: nothing after it happens."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step(self, step: int, *_: object) -> None:
        if step == self._step:
            raise Killed

    def on_eval(self, *_: object) -> None:
        """Goes on."""

    def close(self, ended: Ended) -> None:
        """Nothing to release."""


def configuration(*overrides: str) -> RunConfig:
    return load_config(EXAMPLE, overrides)


def split_of(config: RunConfig) -> Split:
    return load_problems(config.data, config.seed, EXAMPLE.parent)


def parts_of(config: RunConfig, grader: Grader) -> Components:
    """Return the parts of a run with `runtime = "local"`."""
    learner = TorchLearner(
        "run", config.model, config.lora, config.learner, temperature=config.sampling.temperature, seed=config.seed
    )
    encode = Encoder(load_tokenizer(config.model), config.prompt, 60)
    routed = config.learner.router_replay or config.rollout.return_routed_experts
    engine = TorchEngine(config.model, config.lora, return_routed_experts=routed)
    return Components(learner, engine, grader, encode)


async def run(
    config: RunConfig, path: Path, grader: Grader, *, resume: bool = False, sinks: Sequence[Sink] = ()
) -> RunDirectory:
    exists = (path / "config.toml").exists()
    directory = RunDirectory.open(path) if exists else RunDirectory.create(path, config)
    await train(config, split_of(config), parts_of(config, grader), FileJournal(directory, Sinks(sinks), resume=resume))
    return directory


def timeless(directory: RunDirectory) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if not name.startswith(("time", "throughput"))}
        for row in directory.metrics()
    ]
