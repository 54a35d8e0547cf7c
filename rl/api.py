"""rankone from Python: what the commands do, with results to look at.

`from rl import train, sft, sweep, evaluate, grade` (docs/python.md). All of them work in a script, and in a notebook,
whose event loop is running already.
"""

import asyncio
import tomllib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, overload

import tomlkit
from rich.console import Console

from rewards.config import RewardConfig
from rewards.types import Problem, Reward
from rl.algorithm.evaluation.held_out import Evaluation
from rl.config import RunConfig
from rl.launch.evaluation import Which, evaluate_adapter
from rl.launch.event_loop import run_to_end
from rl.launch.recipes import RECIPES
from rl.launch.run_paths import default_directory, newest_directory
from rl.launch.run_result import RunResult
from rl.launch.single import SingleRun, run_single
from rl.learner.reward_model import open_pool
from rl.run.kind import Kind
from rl.run.sinks import Ended, Sink, StoppedEarly
from rl.settings.toml import config_of, dump_config, load_config
from rl.sweep.config import SweepConfig
from rl.sweep.directory import newest_sweep
from rl.sweep.points import load_sweep, sweep_of
from rl.sweep.run import prepare_sweep
from rl.sweep.session import SweepResult, run_whole_sweep
from rl.types import Group

FilePath = str | PathLike[str]
Settings = Mapping[str, Any]
"""Values by the dotted names of their keys, such as ``{"lora.rank": 4}``."""
OnStep = Callable[[int, Mapping[str, float]], bool | None]
"""Called after each step with its number and its metrics; the run ends early if it returns True."""


def train(
    config: RunConfig | FilePath,
    *,
    out: FilePath | None = None,
    resume: bool = False,
    settings: Settings | None = None,
    on_step: OnStep | None = None,
    quiet: bool = False,
) -> RunResult:
    """Train an adapter by reinforcement learning, as `rankone train` does.

    `config` is a TOML file or a configuration, whose relative paths start in the working directory; `settings` change
    it, as in ``{"lora.rank": 4}``. `out` is the run's directory, by default a new one below `runs/`. With `resume`, the
    run in it goes on from its newest checkpoint.

    Raises:
        ValueError: anything that the user can put right, in one line.
    """
    return _run("train", config, out, settings, on_step, resume=resume, quiet=quiet)


def sft(
    config: RunConfig | FilePath,
    *,
    out: FilePath | None = None,
    resume: bool = False,
    settings: Settings | None = None,
    on_step: OnStep | None = None,
    quiet: bool = False,
) -> RunResult:
    """Train an adapter on given completions, as `rankone sft` does; the arguments are those of `train`."""
    return _run("sft", config, out, settings, on_step, resume=resume, quiet=quiet)


def sweep(
    sweep: SweepConfig | FilePath,
    *,
    out: FilePath | None = None,
    resume: bool = False,
    settings: Settings | None = None,
    quiet: bool = False,
) -> SweepResult:
    """Train many adapters on one base model, as `rankone sweep` does; `settings` change the base run.

    Raises:
        ValueError: anything that the user can put right, in one line or several.
    """
    overrides = _overrides(settings)
    if isinstance(sweep, SweepConfig):
        loaded = sweep_of(sweep, Path("sweep"), overrides)
    else:
        loaded = load_sweep(Path(sweep), overrides)
    path = Path(out or (newest_sweep(loaded.name) if resume else default_directory(loaded.name)))
    with _interruptible():
        return run_whole_sweep(loaded, prepare_sweep(loaded), path, Console(quiet=quiet), resume=resume)


def evaluate(
    config: RunConfig | FilePath,
    adapter: RunResult | FilePath | None = None,
    *,
    which: Which = "best",
    settings: Settings | None = None,
) -> Evaluation:
    """Measure a policy's accuracy on the held-out problems, as `rankone eval` does.

    `adapter` is a run, a run's directory or a PEFT adapter's, by default none, which measures the base model; `which`
    of a run's adapters is "best" or "last".

    Raises:
        ValueError: there is no such adapter, or anything else that the user can put right.
    """
    loaded, base = _load(config, settings)
    source = adapter.path if isinstance(adapter, RunResult) else adapter
    with _interruptible():
        return evaluate_adapter(loaded, base, None if source is None else Path(source), which)


@overload
def grade(
    answer: str, completion: str, *, question: str = "", reward: RewardConfig | str = "math_answer"
) -> Reward: ...


@overload
def grade(
    answer: str,
    completion: list[str] | tuple[str, ...],
    *,
    question: str = "",
    reward: RewardConfig | str = "math_answer",
) -> list[Reward]: ...


def grade(
    answer: str,
    completion: str | list[str] | tuple[str, ...],
    *,
    question: str = "",
    reward: RewardConfig | str = "math_answer",
) -> Reward | list[Reward]:
    """Grade one completion or several of a problem against its answer, in a process that ends with the call.

    `reward` is a function's name, as in `reward.function`, or a whole configuration. Where there is a `question`, it
    says what form is an answer, and repeating it is none.

    Raises:
        ValueError: there is no such function, or it fails.
    """
    config = reward if isinstance(reward, RewardConfig) else RewardConfig(function=reward, workers=1)
    texts = [completion] if isinstance(completion, str) else list(completion)
    rewards = run_to_end(_grade(Problem("grade", question, answer), texts, config))
    return rewards[0] if isinstance(completion, str) else rewards


async def _grade(problem: Problem, texts: Sequence[str], config: RewardConfig) -> list[Reward]:
    grader = open_pool(config)
    try:
        (rewards,) = await grader.grade([problem], [texts])
        return rewards
    finally:
        await grader.close()


def _run(
    kind: Kind,
    config: RunConfig | FilePath,
    out: FilePath | None,
    settings: Settings | None,
    on_step: OnStep | None,
    *,
    resume: bool,
    quiet: bool,
) -> RunResult:
    recipe = RECIPES[kind]
    loaded, base = _load(config, settings)
    name = recipe.run_name(loaded)
    path = Path(out or (newest_directory(name) if resume else default_directory(name)))
    prepared = recipe.prepare(loaded, base)
    steps = None if on_step is None else StepCallback(on_step)
    single = SingleRun(recipe, prepared, path, Console(quiet=quiet), resume, [] if steps is None else [steps])
    with _interruptible():
        result = run_single(single)
    if steps is not None and steps.error is not None:
        raise steps.error
    return result


class StepCallback(Sink):
    """Calls a function after each step; the run ends if it returns True, or fails."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step
        self.error: Exception | None = None
        """The exception that the function raised."""

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        """Its numbers come with the step's."""

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        try:
            stop = self._on_step(step, metrics)
        except Exception as error:  # it is the caller's, who gets it once the run has closed what it opened
            self.error = error
            raise StoppedEarly from error
        if stop is True:
            raise StoppedEarly

    def close(self, ended: Ended) -> None:
        """Nothing to release."""


def _load(config: RunConfig | FilePath, settings: Settings | None) -> tuple[RunConfig, Path]:
    """Return the configuration, and where its relative paths start."""
    overrides = _overrides(settings)
    if not isinstance(config, RunConfig):
        return load_config(config, overrides), Path(config).parent
    return config_of(tomllib.loads(dump_config(config)), None, overrides), Path.cwd()


def _overrides(settings: Settings | None) -> list[str]:
    """Return the settings as `--set` takes them."""
    return [
        f"{name}={'none' if value is None else tomlkit.item(value).as_string()}"
        for name, value in (settings or {}).items()
    ]


@contextmanager
def _interruptible() -> Generator[None]:
    """Raise KeyboardInterrupt for an interruption, however it has come through the event loop."""
    try:
        yield
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
