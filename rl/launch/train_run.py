"""One run from its configuration to its summary: check everything that can be checked, then train."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from torch import Tensor

from lora.accounting import advice
from lora.load import load_tokenizer
from rewards.math_answer import check_answers
from rewards.preflight import preflight
from rewards.types import Problem
from rl.cluster.components import open_components, open_grader
from rl.cluster.connect import connect, disconnect
from rl.cluster.interrupts import cancel_on_signals, ended_by_signals, in_daemon
from rl.cluster.learner import say_checkpointing
from rl.config import RunConfig, replaced
from rl.data import Split, absolute_paths, check_step_size, load_problems
from rl.data.prompts import Encoder
from rl.learner.activations import longest_row
from rl.learner.policy import first_state
from rl.monitoring.best_effort import best_effort
from rl.monitoring.curve import draw_curve
from rl.monitoring.dashboard.reporter import DashboardReporter
from rl.monitoring.dashboard.run_info import run_info
from rl.monitoring.progress import LiveDisplay, LogLines
from rl.monitoring.ray_metrics import RayMetrics
from rl.monitoring.trackers import TRACKERS, check_trackers
from rl.run.directory import FileJournal, RunDirectory
from rl.run.sinks import Ended, Sink, Sinks, StoppedEarly, TensorBoard, start_sinks
from rl.run.warm_start import absolute_init, read_init
from rl.train import Components, train
from rl.types import Learner, LearnerDied
from rollout.pool import BACK_OFF

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known before any model is loaded."""

    config: RunConfig
    problems: Split
    encode: Encoder
    initial_adapter: Mapping[str, Tensor] | None
    """The adapter that the run begins from, if it is not a fresh one."""
    longest_prompt: int
    """Tokens."""

    @property
    def longest_row(self) -> int:
        """Inputs of the longest row that a step may train on."""
        sampling = self.config.sampling
        tokens_per_row = self.config.learner.tokens_per_row
        return longest_row(self.longest_prompt, sampling.max_tokens, sampling.group_size, tokens_per_row)


def prepare(config: RunConfig, base: Path) -> Prepared:
    """Load what reinforcement learning needs besides models: data and tokenizer, and check them.

    Raises:
        ValueError: anything in the configuration or the data that would stop the run later.
    """
    check_objective(config)
    prepared = prepare_evaluation(config, base)
    check_step_size(prepared.problems.train, config.problems_per_step)
    return prepared


def check_objective(config: RunConfig) -> None:
    """Raises ValueError if it is supervised fine-tuning's."""
    if config.learner.objective == "cross_entropy":
        raise ValueError('learner.objective = "cross_entropy" learns from given completions: run `rankone sft`')


def prepare_evaluation(config: RunConfig, base: Path) -> Prepared:
    """Load the same for a policy that is only to be evaluated, however it was trained. Raises as `prepare` does."""
    check_trackers(config)
    # The configuration is kept beside the run, where relative paths would lead elsewhere.
    config = replaced(
        config,
        runtime="ray" if config.on_ray else "local",
        data=absolute_paths(config.data, base),
        lora=absolute_init(config.lora, base),
    )
    problems = load_problems(config.data, config.seed, base)
    encode = Encoder(load_tokenizer(config.model), config.prompt, config.model.max_length - config.sampling.max_tokens)
    longest_prompt = encode.longest((*problems.train, *problems.held_out))
    if config.reward.is_default:
        check_readable((*problems.train, *problems.held_out))
    return Prepared(config, problems, encode, read_init(config), longest_prompt)


def run(prepared: Prepared, directory: RunDirectory, console: Console, *, resume: bool) -> str:
    """Train, and return the summary line. Ctrl-C and SIGTERM end it at once, with a usable directory."""
    log_to(console)
    started = time.monotonic()
    try:
        with ended_by_signals():
            facts = asyncio.run(_run_and_disconnect(prepared, directory, console, resume=resume))
    finally:
        draw(draw_curve, directory, prepared.config.name)
    return _summary(prepared.config, directory, facts["trained_parameters"], time.monotonic() - started)


def draw(curve: Callable[[list[dict[str, Any]], str, Path], None], directory: RunDirectory, title: str) -> None:
    """Draw a run's curve, if it can be: what ended the run is what its user should hear of, not that this failed."""
    with best_effort("the curve could not be drawn"):
        curve(directory.metrics(), title, directory.path / "curve.png")


def default_directory(name: str) -> Path:
    """A new directory below `runs/`, named by the run and the time."""
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def newest_directory(name: str) -> Path:
    """The newest run of that name below `runs/`. Raises ValueError if there is none."""
    when = f"{'[0-9]' * 8}-{'[0-9]' * 6}"
    runs = sorted(path.parent for path in Path("runs").glob(f"{name}-{when}/config.toml"))
    if not runs:
        raise ValueError(f"there is no run named {name!r} in runs/ to resume; name its directory with --out")
    return runs[-1]


async def _run_and_disconnect(
    prepared: Prepared, directory: RunDirectory, console: Console, *, resume: bool
) -> dict[str, int]:
    """A cluster of our own dies with the thread that started it, which is the loop's: so leave it in the loop.

    Left afterwards, Ray would wait 15 s for processes that are gone.
    """
    try:
        return await _run(prepared, directory, console, resume=resume)
    finally:
        disconnect()


async def _run(prepared: Prepared, directory: RunDirectory, console: Console, *, resume: bool) -> dict[str, int]:
    config = prepared.config
    cancel_on_signals()
    if report := await try_reward(config, prepared.problems.train):
        console.print(report, markup=False)
    with console.status("starting the learner and the rollout workers..."):
        if config.on_ray:
            await in_daemon(connect)
            cancel_on_signals()  # again: Ray has put a handler of SIGTERM in place that aborts
        stack = contextlib.AsyncExitStack()
        opening = open_components(config, directory.path.name, prepared.encode, prepared.longest_row)
        parts = await stack.enter_async_context(opening)
    async with stack:
        facts = dict(await parts.learner.facts())
        say_checkpointing(config, facts)
        _warn(config, facts["model_parameters"])
        await _train(prepared, parts, directory, console, resume=resume)
    return facts


async def try_reward(config: RunConfig, problems: Sequence[Problem], *, teaches: bool = True) -> str:
    """Return what a reward of the user's own made of a few trial completions; nothing of the default one.

    Raises:
        ValueError: it does not work, or is constant, which matters only if it ``teaches``.
    """
    if config.reward.is_default:
        return ""
    async with open_grader(config) as grader:
        return await preflight(grader, problems[:4], teaches=teaches)


async def _train(
    prepared: Prepared, parts: Components, directory: RunDirectory, console: Console, *, resume: bool
) -> None:
    config, done = prepared.config, len(directory.metrics())
    curve = [accuracy for _, accuracy in directory.curve()]
    display = (
        LiveDisplay(console, config.name, config.num_steps, min(done, config.num_steps), curve)
        if console.is_terminal
        else LogLines(console, config.num_steps, curve)
    )
    async with open_sinks(config, directory, display) as sinks:
        await train_with_restarts(prepared, parts, directory, sinks, resume=resume)


@contextlib.asynccontextmanager
async def open_sinks(
    config: RunConfig, directory: RunDirectory, display: Sink, name: str | None = None
) -> AsyncGenerator[Sinks]:
    """All that hears of the run, and in the end how it ended; `name` is the run's there, by default its directory's."""
    sinks = Sinks([display, *make_sinks(config, directory, min(len(directory.metrics()), config.num_steps), name)])
    ended: Ended = "failed"
    try:
        yield sinks
        ended = "finished"
    except (asyncio.CancelledError, StoppedEarly):
        ended = "stopped"
        raise
    finally:
        sinks.close(ended)


async def train_with_restarts(
    prepared: Prepared, parts: Components, directory: RunDirectory, sinks: Sinks, *, resume: bool
) -> None:
    """`train`, with a learner that may die."""
    begin = None if prepared.initial_adapter is None else first_state(directory.path.name, prepared.initial_adapter)

    async def attempt(resume: bool) -> None:
        journal = FileJournal(directory, sinks, resume=resume, begin=begin)
        await train(prepared.config, prepared.problems, parts, journal)

    await with_restarts(parts.learner, directory, attempt, prepared.config.learner.max_restarts, resume=resume)


async def with_restarts(
    learner: Learner,
    directory: RunDirectory,
    attempt: Callable[[bool], Awaitable[None]],
    max_restarts: int,
    *,
    resume: bool,
) -> None:
    """A learner that dies is started again, and the run goes on from its newest checkpoint, as a resumed run does."""
    failures, reached, alive = 0, -1, True
    while True:
        try:
            if not alive:
                await learner.restart()
            alive = True
            await attempt(resume)
            return
        except LearnerDied as died:
            done = len(directory.metrics())
            failures, reached = (failures + 1, reached) if done <= reached else (1, done)
            if failures > max_restarts:
                raise
            log.warning("%s; starting it again", died)
            await asyncio.sleep(BACK_OFF[min(failures, len(BACK_OFF)) - 1])
            alive, resume = False, True


def make_sinks(config: RunConfig, directory: RunDirectory, first: int, name: str | None = None) -> list[Sink]:
    """Those who are told of a run besides the one who sits in front of it; its first step from now is `first`, and its
    name by default its directory's."""
    info = run_info(config, directory.path, name)
    more: dict[str, Callable[[], Sink]] = {
        name: partial(tracker, config, info) for name, tracker in TRACKERS.items() if getattr(config, name) is not None
    }
    if config.tensorboard:
        more["TensorBoard"] = lambda: TensorBoard(directory.tensorboard, first)
    if config.on_ray:
        more |= {"the page": lambda: DashboardReporter(info, directory), "Ray's metrics": lambda: RayMetrics(info)}
    return start_sinks(more)


def _summary(config: RunConfig, directory: RunDirectory, trained: int, seconds: float) -> str:
    curve = [accuracy for _, accuracy in directory.curve()]
    moved = f"{curve[0]:.2f} -> {curve[-1]:.2f}" if curve else "not measured"
    return (
        f"held-out accuracy {moved}, rank {config.lora.rank}, {trained:,} trained parameters, "
        f"{config.num_steps} steps, {format_duration(seconds)}"
    )


def format_duration(seconds: float) -> str:
    """A duration in words."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _warn(config: RunConfig, model_parameters: int) -> None:
    completions = config.problems_per_step * config.sampling.group_size
    for warning in advice(model_parameters, config.lora, config.learner.lr, completions):
        log.warning("%s", warning)


def check_readable(problems: Sequence[Problem]) -> None:
    unreadable = check_answers(problems)
    if len(unreadable) > len(problems) / 2:
        problem_id, reason = unreadable[0]
        raise ValueError(
            f"the grader cannot read {len(unreadable)} of {len(problems)} answers, such as problem {problem_id}: "
            f"{reason}; name the column with the final answer, or a reward function of your own"
        )
    for problem_id, reason in unreadable[:5]:
        log.warning("the answer of problem %s is matched by its spelling alone: %s", problem_id, reason)


def log_to(console: Console) -> None:
    handler = RichHandler(console=console, show_time=False, show_path=False, markup=False)
    for package in ("rl", "rollout", "rewards", "lora"):
        logger = logging.getLogger(package)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
