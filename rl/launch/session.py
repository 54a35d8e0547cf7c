"""Runs from their checked settings to their last step: one for `rankone train` or `sft`, many for `rankone sweep`.

Rewards are tried first. Runs that can share a base model do, as many at a time as have a place; the others come one
after another. Whatever ends a run ends that one alone, and its curve is drawn; only an interruption ends all of them.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from rl.cluster.components import SharedComponents, open_shared_components, shared_settings
from rl.cluster.connect import connect, disconnect
from rl.cluster.interrupts import cancel_on_signals, in_daemon
from rl.cluster.learner import say_what_costs
from rl.config import RunConfig
from rl.episodes.trial import try_environments
from rl.launch.event_loop import run_to_end
from rl.launch.frozen_heap import frozen_heap
from rl.launch.preflight import try_rewards
from rl.launch.recipe import HasLearner, Prepared, Recipe
from rl.launch.remote import open_remote
from rl.launch.restarts import loop_with_restarts
from rl.launch.sinks import open_sinks
from rl.monitoring.best_effort import best_effort
from rl.monitoring.figure_file import write_figure
from rl.run.directory import RunDirectory, holds_run
from rl.run.directory_lock import locked
from rl.run.sinks import Sink
from rl.types import Learner, LearnerDied

STARTING = "starting the learner and the rollout workers..."


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is ready to start."""

    name: str
    """Its policy's, which no other run of the session has."""
    recipe: Recipe[Any, Any]
    prepared: Prepared
    path: Path
    resume: bool
    """Go on from the newest checkpoint, if there is one."""
    title: str
    """Above its curve."""
    page_name: str | None = None
    """On the page and in trackers; by default its directory's."""

    @property
    def config(self) -> RunConfig:
        return self.prepared.config


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run's end."""

    run: Run
    trained_parameters: int = 0
    """0 if its learner was never there."""
    error: Exception | None = None
    """The error that ended it before its last step."""
    began: bool = True
    """False if its directory could not be locked, so that nothing may be written there."""


class Watcher(Protocol):
    """An audience of a session: a person, or a sweep."""

    def on_begin(self, run: Run) -> None:
        """Take in that the run is the next; called in its task."""
        ...

    def on_open(self, run: Run, facts: Mapping[str, int]) -> None:
        """Take in what its learner says of itself."""
        ...

    def sink(self, run: Run, directory: RunDirectory) -> Sink:
        """Return what hears of its steps."""
        ...

    def on_end(self, outcome: Outcome) -> None:
        """Take in what became of it, while its directory is still locked."""
        ...


class Session:
    """One or several runs, which are trained by `run`."""

    def __init__(
        self,
        runs: Sequence[Run],
        watcher: Watcher,
        *,
        at_once: int = 1,
        locks: bool = False,
        console: Console | None = None,
    ) -> None:
        """`at_once` policies learn together. With `locks`, each run's directory is locked while it goes on; without,
        the caller has locked it. `console` shows what is waited for, if somebody waits for it."""
        self._runs = runs
        self._watcher = watcher
        self._at_once = at_once
        self._locks = locks
        self._console = console
        self._under_way: dict[str, Run] = {}
        self._outcomes: dict[str, Outcome] = {}

    def run(self) -> list[Outcome]:
        """Train all, and return what became of each, in their order.

        Ctrl-C and SIGTERM end all at once, and leave usable directories.

        Raises:
            ValueError: a reward does not work, or what several runs share cannot be opened.
        """
        try:
            run_to_end(self._run_all())
        finally:
            for run in self._under_way.values():
                draw(run)
        return [self._outcomes[run.name] for run in self._runs]

    async def _run_all(self) -> None:
        cancel_on_signals()
        try:
            await self._try_rewards()
            await self._try_environments()
            for group in _groups(self._runs):
                if group[0].config.on_ray:
                    with self._waiting():
                        await in_daemon(connect)
                    cancel_on_signals()  # again: Ray has put a handler of SIGTERM in place that aborts
                await self._run_group(group)
        finally:
            # In the loop: a cluster of our own dies with the thread that started it, which is the loop's. Left
            # afterwards, Ray would wait 15 s for processes that are gone.
            disconnect()

    async def _try_rewards(self) -> None:
        """Raises ValueError if a reward of the user's own does not work, or teaches nothing."""
        tried: set[str] = set()
        for run in self._runs:
            trial, rewards = run.recipe.reward_trial(run.prepared), repr((run.config.reward, run.config.sources))
            if trial is None or rewards in tried:
                continue
            tried.add(rewards)
            report = await try_rewards(run.config, trial.problems, teaches=trial.teaches)
            if report and self._console is not None:
                self._console.print(report, markup=False)

    async def _try_environments(self) -> None:
        """Raises ValueError if an environment does not answer."""
        tried: set[str] = set()
        for run in self._runs:
            trial, config = run.recipe.reward_trial(run.prepared), run.config
            if trial is not None:
                await try_environments(config, trial.problems, tried)

    async def _run_group(self, group: Sequence[Run]) -> None:
        """Train runs that share a base model, or one that shares nothing."""
        if len(group) == 1:
            await self._run_one(group[0], open_alone(group[0].recipe, group[0].prepared, group[0].name))
            return
        at_once = min(self._at_once, len(group))
        places = asyncio.Semaphore(at_once)

        async def in_its_place(run: Run, shared: SharedComponents) -> None:
            async with places:
                await self._run_one(run, run.recipe.open(run.prepared, run.name, shared))
                with contextlib.suppress(LearnerDied):  # then its place is gone too
                    await shared.joint_updates.free(run.name)

        recipe, prepared = group[0].recipe, [run.prepared for run in group]
        async with open_shared(recipe, prepared, at_once) as shared, asyncio.TaskGroup() as tasks:
            for run in group:
                tasks.create_task(in_its_place(run, shared))

    async def _run_one(self, run: Run, opening: AbstractAsyncContextManager[HasLearner]) -> None:
        """Train a run to its end; only an interruption goes further than this."""
        self._watcher.on_begin(run)
        with ExitStack() as stack:
            try:
                if self._locks:
                    stack.enter_context(locked(run.path))
            except (OSError, ValueError) as error:
                self._outcomes[run.name] = Outcome(run, error=error, began=False)
            else:
                self._under_way[run.name] = run
                self._outcomes[run.name] = await self._outcome(run, opening)
                del self._under_way[run.name]
                draw(run)
            self._watcher.on_end(self._outcomes[run.name])

    async def _outcome(self, run: Run, opening: AbstractAsyncContextManager[HasLearner]) -> Outcome:
        trained = 0
        try:
            directory = open_or_create(run)
            async with contextlib.AsyncExitStack() as stack:
                with self._waiting():
                    parts = await stack.enter_async_context(opening)
                facts = await _facts(parts.learner)
                trained = facts["trained_parameters"]
                say_what_costs(run.config, facts)
                self._watcher.on_open(run, facts)
                await self._train(run, parts, directory)
        except Exception as error:  # the others go on
            return Outcome(run, trained, error)
        return Outcome(run, trained)

    async def _train(self, run: Run, parts: HasLearner, directory: RunDirectory) -> None:
        config = run.recipe.learner_config(run.config)
        async with open_sinks(config, directory, self._watcher.sink(run, directory), run.page_name) as sinks:
            with frozen_heap():
                await loop_with_restarts(run.recipe, run.prepared, parts, directory, sinks, resume=run.resume)

    def _waiting(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext() if self._console is None else self._console.status(STARTING)


def open_shared(
    recipe: Recipe[Any, Any], prepared: Sequence[Prepared], at_once: int
) -> AbstractAsyncContextManager[SharedComponents]:
    """Open what runs of a kind share, `at_once` of them at a time."""
    configs = [recipe.learner_config(run.config) for run in prepared]
    longest_row = max(run.longest_row for run in prepared)
    workers = any(recipe.needs_engine(config) for config in configs)
    return open_shared_components(configs, at_once, longest_row, workers=workers)


@contextlib.asynccontextmanager
async def open_alone(recipe: Recipe[Any, Any], prepared: Prepared, run: str) -> AsyncGenerator[HasLearner]:
    """Open all that one run is made of; it is gone when the block ends."""
    opening = open_remote(prepared.config) if prepared.config.server else open_shared(recipe, [prepared], 1)
    async with opening as shared, recipe.open(prepared, run, shared) as parts:
        yield parts


def open_or_create(run: Run) -> RunDirectory:
    """Return the run's directory, which is made if it is not there.

    Raises:
        ValueError: another kind of run has it, or it cannot be made.
    """
    if not holds_run(run.path):
        return RunDirectory.create(run.path, run.config, run.recipe.kind)
    directory = RunDirectory(run.path)
    directory.require_kind(run.recipe.kind)
    return directory


def draw(run: Run) -> None:
    """Draw a run's curve, if it can be: what ended the run is what its user should hear of, not that this failed."""
    with best_effort("the curve could not be drawn"):
        write_figure(run.recipe.figure(RunDirectory(run.path).metrics(), run.title), run.path / "curve.png")


async def _facts(learner: Learner) -> Mapping[str, int]:
    try:
        return await learner.facts()
    except LearnerDied:  # between two runs of a sweep
        await learner.restart()
        return await learner.facts()


def _groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Return runs that can share a base model together, in the order of their first; full fine-tuning shares none."""
    groups: dict[object, list[Run]] = {}
    for run in runs:
        config = run.recipe.learner_config(run.config)
        alone = run.name if config.learner.weights == "full" else ""
        key = (run.recipe.kind, run.recipe.needs_engine(config), shared_settings(config), alone)
        groups.setdefault(key, []).append(run)
    return list(groups.values())
