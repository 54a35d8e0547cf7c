"""The work that is compared: `work.toml`, its problems and their prompts."""

from pathlib import Path

from rl.config import RunConfig
from rl.data import draw
from rl.launch.train_recipe import TRAIN
from rl.launch.train_recipe import PreparedTrain as Prepared
from rl.settings.toml import load_config
from rollout.environment import worker_environment

asked: list[str] = []
"""Settings that the command line put on top of `work.toml`."""


def load_work(*settings: str) -> Prepared:
    """`work.toml` with what was asked for and `settings` such as ``"num_steps=3"`` on top."""
    file = Path(__file__).with_name("work.toml")
    return TRAIN.prepare(load_config(file, [*asked, *settings]), file.parent)


def step_prompts(work: Prepared, step: int = 0) -> list[list[int]]:
    """The prompts of one step's problems."""
    config = work.config
    return [work.encode(p) for p in draw(work.problems.train, step, config.problems_per_step, config.seed)]


def engine_environment(config: RunConfig, threads: int) -> dict[str, str]:
    """What a rollout worker's process gets."""
    return worker_environment(config.rollout, threads=threads, on_gpu=False)
