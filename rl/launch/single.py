"""A session of one run: `rankone train`, `rankone sft`, and the same from Python."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from rl.config import RunConfig
from rl.launch.logs import logging_to
from rl.launch.recipe import Prepared, Recipe
from rl.launch.run_result import RunResult
from rl.launch.session import Outcome, Run, Session, Watcher
from rl.run.directory import RunDirectory, holds_run
from rl.run.sinks import Sink, Sinks, StoppedEarly

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SingleRun:
    """A run that was asked for, and who sits in front of it."""

    recipe: Recipe[Any, Any]
    prepared: Prepared
    path: Path
    console: Console
    resume: bool = False
    sinks: Sequence[Sink] = ()
    """Sinks that hear of it besides those of the configuration."""


def run_single(single: SingleRun) -> RunResult:
    """Train, and return what it has come to. Ctrl-C and SIGTERM end it at once, with a usable directory.

    Raises:
        ValueError: the directory is another run's, or anything that the user can put right.
        Exception: what else ended the run.
    """
    recipe, prepared, path = single.recipe, single.prepared, single.path
    with RunDirectory(path).locked(), logging_to(single.console):
        _open(single)
        started = time.monotonic()
        run = Run(path.name, recipe, prepared, path, single.resume, title=prepared.config.name)
        (outcome,) = Session([run], _Person(single.console, single.sinks), console=single.console).run()
    if outcome.error is not None and not isinstance(outcome.error, StoppedEarly):
        raise outcome.error
    config, lasted = prepared.config, format_duration(time.monotonic() - started)
    steps = f"{config.num_steps} steps" if outcome.error is None else "stopped early"
    summary = (
        f"{recipe.summary(config, RunDirectory(path))}, {_adapter(config)}, {outcome.trained_parameters:,} "
        f"trained parameters, {steps}, {lasted}"
    )
    return RunResult(recipe.kind, path, config, summary)


def _adapter(config: RunConfig) -> str:
    return f"{'TinyLoRA of ' if config.lora.kind == 'tiny' else ''}rank {config.lora.rank}"


def format_duration(seconds: float) -> str:
    """Return a duration in words."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _open(single: SingleRun) -> None:
    """Make the run's directory, or see that the run in it may go on, and say with what changes."""
    config, path = single.prepared.config, single.path
    exists = holds_run(path)
    if not (single.resume and exists):
        RunDirectory.create(path, config, single.recipe.kind)
    if not single.resume:
        return
    changes = [f"{path} is new: nothing to resume"]
    if exists:
        directory = RunDirectory.open(path)
        directory.require_kind(single.recipe.kind)
        changes = directory.reconfigure(config)
    single.console.print(*changes, sep="\n", end="\n" * bool(changes), markup=False, highlight=False)


class _Person(Watcher):
    """Somebody in front of one run."""

    def __init__(self, console: Console, sinks: Sequence[Sink]) -> None:
        self._console = console
        self._sinks = sinks

    def on_begin(self, run: Run) -> None:
        """There is no other."""

    def on_open(self, run: Run, facts: Mapping[str, int]) -> None:
        for warning in run.recipe.advice(run.config, facts["model_parameters"]):
            log.warning("%s", warning)

    def sink(self, run: Run, directory: RunDirectory) -> Sink:
        return Sinks([run.recipe.display(self._console, run.config, directory), *self._sinks])

    def on_end(self, outcome: Outcome) -> None:
        """The caller says how it ended."""
