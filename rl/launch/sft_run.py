"""One supervised run from its configuration to its summary; see `rl.launch.train_run`."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from lora.accounting import supervised_advice
from lora.load import load_end_tokens, load_tokenizer
from lora.types import Adapter
from rl.algorithm.demonstrations import SftEncoder
from rl.algorithm.evaluate import evaluate
from rl.algorithm.liveness import NUM_SEQUENCES, Reference
from rl.cluster.components import open_components
from rl.cluster.connect import connect, disconnect
from rl.cluster.interrupts import cancel_on_signals, ended_by_signals, in_daemon
from rl.cluster.learner import open_learner, say_checkpointing
from rl.cluster.reservation import reserve
from rl.config import RunConfig, replaced
from rl.data import Split, absolute_paths, check_step_size, load_problems, sample_held_out
from rl.data.prompts import Encoder
from rl.launch.train_run import check_readable, draw, format_duration, log_to, open_sinks, try_reward, with_restarts
from rl.learner.memory import Budget
from rl.learner.policy import first_state
from rl.monitoring.loss_curve import draw_loss_curve
from rl.monitoring.loss_progress import LossLines, LossTable
from rl.monitoring.trackers import check_trackers
from rl.run.directory import FileJournal, RunDirectory
from rl.run.warm_start import absolute_init, read_init
from rl.sft import Evaluator, as_the_learner_sees_it, train_sft
from rl.train import Components
from rl.types import Learner

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PreparedSft:
    """What is known before any model is loaded."""

    config: RunConfig
    problems: Split
    encode_sft: SftEncoder
    encode: Encoder
    """Of the prompts that the policy answers, if it is to."""
    initial_adapter: Mapping[str, Tensor] | None
    """The adapter that the run begins from, if it is not a fresh one."""
    longest: int
    """Tokens of the longest demonstration, prompt and completion."""

    @property
    def longest_row(self) -> int:
        """Inputs of the longest row that a step may train on: demonstrations of one prompt share it."""
        return max(self.longest - 1, self.config.learner.tokens_per_row)


def prepare(config: RunConfig, base: Path) -> PreparedSft:
    """Load data and tokenizer, and check them.

    Raises:
        ValueError: anything in the configuration or the data that would stop the run later.
    """
    check_trackers(config)
    config = replaced(
        resolve_sft_runtime(config), data=absolute_paths(config.data, base), lora=absolute_init(config.lora, base)
    )
    problems = load_problems(config.data, config.seed, base)
    check_step_size(problems.train, config.problems_per_step)
    tokenizer = load_tokenizer(config.model)
    ends = load_end_tokens(config.model, tokenizer)
    demonstrate = SftEncoder(tokenizer, config.prompt, config.sft, max_length=config.model.max_length, end_tokens=ends)
    encode = Encoder(tokenizer, config.prompt, config.model.max_length - config.sampling.max_tokens)
    longest = demonstrate.longest((*problems.train, *problems.held_out))
    if config.sft.accuracy:
        encode.longest(problems.held_out)
        if config.reward.is_default:
            check_readable(problems.held_out)
    return PreparedSft(config, problems, demonstrate, encode, read_init(config), longest)


def resolve_sft_runtime(config: RunConfig) -> RunConfig:
    """Say where the run is if the configuration does not: one learner that needs no rollout engine needs no cluster."""
    if config.runtime != "auto":
        return config
    if config.sft.accuracy or config.learner.num_learners > 1:
        return replaced(config, runtime="ray")
    return replaced(config, runtime="local", rollout={"engine": "torch"})


def run(prepared: PreparedSft, directory: RunDirectory, console: Console, *, resume: bool) -> str:
    """Fine-tune, and return the summary line. Ctrl-C and SIGTERM end it at once, with a usable directory."""
    log_to(console)
    started = time.monotonic()
    try:
        with ended_by_signals():
            facts = asyncio.run(_run(prepared, directory, console, resume=resume))
    finally:
        draw(draw_loss_curve, directory, prepared.config.name)
    return _summary(prepared.config, directory, facts["trained_parameters"], time.monotonic() - started)


async def _run(prepared: PreparedSft, directory: RunDirectory, console: Console, *, resume: bool) -> dict[str, int]:
    config = prepared.config
    cancel_on_signals()
    try:
        if config.sft.accuracy and (report := await try_reward(config, prepared.problems.held_out, teaches=False)):
            console.print(report, markup=False)
        if config.on_ray:
            with console.status("joining the cluster..."):
                await in_daemon(connect)
            cancel_on_signals()  # again: Ray has put a handler of SIGTERM in place that aborts
        async with open_sft_components(prepared, directory.path.name) as (learner, parts):
            facts = dict(await learner.facts())
            say_checkpointing(config, facts)
            for warning in supervised_advice(
                facts["model_parameters"], config.lora, config.learner.lr, config.problems_per_step
            ):
                log.warning("%s", warning)
            await _train(prepared, directory, console, learner, parts, resume=resume)
        return facts
    finally:
        disconnect()


@asynccontextmanager
async def open_sft_components(prepared: PreparedSft, run: str) -> AsyncGenerator[tuple[Learner, Components | None]]:
    """The learner, and the parts that examine it if the configuration asks for accuracy."""
    config = as_the_learner_sees_it(prepared.config)
    if config.sft.accuracy:
        async with open_components(config, run, prepared.encode, prepared.longest_row) as parts:
            yield parts.learner, parts
    elif not config.on_ray:
        async with open_learner(config, run, None, Budget(prepared.longest_row)) as learner:
            yield learner, None
    else:
        budget = Budget(prepared.longest_row)
        async with (
            reserve(config, learner=True, workers=False) as held,
            open_learner(config, run, held, budget) as learner,
        ):
            yield learner, None


async def _train(
    prepared: PreparedSft,
    directory: RunDirectory,
    console: Console,
    learner: Learner,
    parts: Components | None,
    *,
    resume: bool,
) -> None:
    config = prepared.config
    display = (
        LossTable(console, config.name, config.num_steps, directory.metrics())
        if console.is_terminal
        else LossLines(console, config.num_steps)
    )
    begin = None if prepared.initial_adapter is None else first_state(directory.path.name, prepared.initial_adapter)
    async with open_sinks(as_the_learner_sees_it(config), directory, display) as sinks:

        async def attempt(resume: bool) -> None:
            journal = FileJournal(directory, sinks, resume=resume, begin=begin, score=_score)
            examine = None if parts is None else HeldOutEvaluation(prepared, parts, journal)
            await train_sft(config, prepared.problems, prepared.encode_sft, learner, journal, examine)

        await with_restarts(learner, directory, attempt, config.learner.max_restarts, resume=resume)


class HeldOutEvaluation(Evaluator):
    """The held-out problems, answered by the rollout engine and graded, as in reinforcement learning."""

    def __init__(self, prepared: PreparedSft, parts: Components, journal: FileJournal) -> None:
        self._prepared = prepared
        self._parts = parts
        self._journal = journal
        self._previous: Adapter | None = None

    async def __call__(self, step: int, adapter: Adapter, learner: Learner) -> dict[str, float]:
        config, parts, problems = self._prepared.config, self._parts, self._prepared.problems.held_out
        asked = sample_held_out(problems, NUM_SEQUENCES, config.seed)
        shown = [self._prepared.encode_sft(problem) for problem in asked]
        sequences = [[*one.prompt, *one.completion][: config.model.max_length - 1] for one in shown]
        reference = await Reference.measure(learner, adapter, self._previous, sequences)
        alive = await parts.policy_checker.check(reference, parts.engine)
        self._previous = adapter
        evaluation = await evaluate(config, problems, adapter, parts.engine, parts.grader, parts.encode)
        self._journal.on_eval_samples(step, evaluation)
        return alive | evaluation.metrics()


def _score(metrics: Mapping[str, Any]) -> float | None:
    """The best policy is the one with the lowest log-loss."""
    return -metrics["eval/log_loss"] if "eval/log_loss" in metrics else None


def _summary(config: RunConfig, directory: RunDirectory, trained: int, seconds: float) -> str:
    moved = [_moved(directory, "eval/log_loss", "held-out log-loss", " nats a token")]
    if config.sft.accuracy:
        moved.append(_moved(directory, "eval/accuracy", "accuracy", ""))
    return (
        f"{', '.join(moved)}, rank {config.lora.rank}, {trained:,} trained parameters, {config.num_steps} steps, "
        f"{format_duration(seconds)}"
    )


def _moved(directory: RunDirectory, name: str, words: str, unit: str) -> str:
    values = [row[name] for row in directory.metrics() if name in row]
    return f"{words} {values[0]:.2f} -> {values[-1]:.2f}{unit}" if values else f"{words} not measured"
