"""Run a sweep: as many policies together as have a place, one loop each, the others after them.

Every run has a directory of its own, as if `rankone train` had made it; a sweep that is resumed leaves those alone that
are done, and goes on with the others from their checkpoints.
"""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from lora.inject import inject
from lora.load import load_skeleton
from rl.algorithm.collapse import Collapse
from rl.cluster.components import SharedComponents, open_components, open_shared_components, shared_settings
from rl.cluster.connect import connect, disconnect
from rl.cluster.interrupts import cancel_on_signals, ended_by_signals, in_daemon
from rl.cluster.learner import say_checkpointing
from rl.config import replaced
from rl.data import check_step_size
from rl.errors import one_line
from rl.launch.train_run import (
    Prepared,
    check_objective,
    draw,
    log_to,
    open_sinks,
    prepare,
    train_with_restarts,
    try_reward,
)
from rl.monitoring.best_effort import best_effort
from rl.monitoring.curve import draw_curve
from rl.monitoring.dashboard.reporter import store_on_page
from rl.monitoring.dashboard.run_info import submission_id
from rl.run.directory import RunDirectory, holds_run
from rl.run.directory_lock import locked
from rl.run.sinks import Sinks, StoppedEarly
from rl.run.warm_start import absolute_init
from rl.sweep.display import Board, BoardSink, NameRuns, current_run
from rl.sweep.early_stopping import EarlyStopper
from rl.sweep.findings import RESULTS
from rl.sweep.points import Point, Sweep
from rl.sweep.results import Result, load_final, result_of, save_final, write_all
from rl.types import Group, Learner, LearnerDied

log = logging.getLogger(__name__)


def prepare_sweep(sweep: Sweep) -> list[Prepared]:
    """Load and check the data of every run; runs with the same data share it. Raises ValueError as `prepare` does."""
    known: dict[str, Prepared] = {}
    found: list[Prepared] = []
    for point in sweep.points:
        config = point.config
        lora = absolute_init(config.lora, sweep.directory)
        begins = lora if lora.init else None
        key = repr(
            (config.seed, config.data, config.model, config.prompt, config.sampling.max_tokens, config.reward, begins)
        )
        try:
            check_objective(config)
            if key not in known:
                known[key] = prepare(config, sweep.directory)
            check_step_size(known[key].problems.train, config.problems_per_step)
        except ValueError as error:
            raise ValueError(f"{point.name}: {error}") from None
        shared = known[key].config
        found.append(replace(known[key], config=replaced(config, runtime=shared.runtime, data=shared.data, lora=lora)))
    _check_layers(sweep.points)
    return found


def _check_layers(points: Sequence[Point]) -> None:
    """Raises ValueError if a model lacks a layer that a run adapts: the weights are not needed to see that."""
    skeletons: dict[str, Any] = {}
    for point in points:
        model, lora = point.config.model, point.config.lora
        skeleton = skeletons.setdefault(model.name, None) or load_skeleton(model)
        skeletons[model.name] = skeleton
        try:
            inject(skeleton, lora)
        except ValueError as error:
            raise ValueError(f"{point.name}: {error}") from None


def run_sweep(
    sweep: Sweep, prepared: Sequence[Prepared], path: Path, console: Console, *, at_once: int | None = None
) -> list[Result]:
    """Train all policies that are not trained yet; what became of each. Ctrl-C and SIGTERM leave all usable."""
    log_to(console)
    for handler in logging.getLogger("rl").handlers:  # all packages share it
        handler.addFilter(NameRuns())
    runs = {point.name: point.config.num_steps for point in sweep.points}
    with Board(console, sweep.name, runs) as board, ended_by_signals():
        return asyncio.run(_Runner(sweep, prepared, path, board, at_once or sweep.config.policies_at_once).run())


class _Runner:
    def __init__(self, sweep: Sweep, prepared: Sequence[Prepared], path: Path, board: Board, at_once: int) -> None:
        self._points = sweep.points
        self._prepared = dict(zip((point.name for point in sweep.points), prepared, strict=True))
        self._path = path
        self._board = board
        self._at_once = at_once
        self._stopper = EarlyStopper(sweep.config.stop, max(point.config.num_steps for point in sweep.points))
        self._results: dict[str, Result] = {}
        self._trained: dict[str, int] = {}

    async def run(self) -> list[Result]:
        try:
            cancel_on_signals()
            await self._try_rewards()
            self._recall()
            for group in _groups([point for point in self._points if point.name not in self._results]):
                if group[0].config.on_ray:
                    await in_daemon(connect)
                    cancel_on_signals()  # again: Ray has put a handler of SIGTERM in place that aborts
                await self._run_group(group)
            return self._ordered()
        finally:
            disconnect()  # in the loop: a cluster of our own dies with the thread that started it

    async def _try_rewards(self) -> None:
        """Raises ValueError if a reward of the user's own does not work, or teaches nothing."""
        tried: set[str] = set()
        for one in self._prepared.values():
            if (reward := repr(one.config.reward)) not in tried:
                tried.add(reward)
                await try_reward(one.config, one.problems.train)

    def _recall(self) -> None:
        """What was done before the sweep was interrupted, told to the stopper in the order in which it happened."""
        rows: list[tuple[float, str, dict[str, Any]]] = []
        for point in self._points:
            directory = RunDirectory(self._path / point.name)
            if (result := load_final(directory.path)) is not None:
                self._note(result)
            rows += [(row.get("time", 0.0), point.name, row) for row in directory.metrics() if "eval/accuracy" in row]
        for _, name, row in sorted(rows, key=lambda one: one[0]):
            self._stopper.should_stop(name, row["step"], row["eval/accuracy"])

    async def _run_group(self, group: Sequence[Point]) -> None:
        """Runs that share a base model, or one that shares nothing."""
        if group[0].config.learner.weights == "full":
            for point in group:
                await self._run_point(point, None)
            return
        at_once = min(self._at_once, len(group))
        places = asyncio.Semaphore(at_once)
        configs = [self._prepared[point.name].config for point in group]

        async def in_its_place(point: Point, shared: SharedComponents) -> None:
            async with places:
                await self._run_point(point, shared)
                with contextlib.suppress(LearnerDied):  # then its place is gone too
                    await shared.joint_updates.free(point.name)

        longest_row = max(self._prepared[point.name].longest_row for point in group)
        async with open_shared_components(configs, at_once, longest_row) as shared, asyncio.TaskGroup() as tasks:
            for point in group:
                tasks.create_task(in_its_place(point, shared))

    async def _run_point(self, point: Point, shared: SharedComponents | None) -> None:
        """One run to its end; only an interruption goes further than this."""
        current_run.set(point.name)
        directory = RunDirectory(self._path / point.name)
        try:
            with locked(directory.path):
                result = await self._result(point, directory, shared)
                draw(draw_curve, directory, point.name)
                with best_effort("its result could not be kept, so a resumed sweep will look at the run again"):
                    save_final(result, directory.path)
                if result.final and result.weights == "full":  # gigabytes a run, and never gone on with
                    shutil.rmtree(directory.checkpoints, ignore_errors=True)
        except (OSError, ValueError) as error:  # it cannot be locked, and nothing is written there
            result = result_of(point, directory, 0, "failed", one_line(error) or str(error))
        self._note(result)

    async def _result(self, point: Point, directory: RunDirectory, shared: SharedComponents | None) -> Result:
        """Run it, and say what became of it."""
        ended, reason = "finished", ""
        try:
            await self._train(point, directory, shared)
        except StoppedEarly:
            ended = "stopped_early"
        except Collapse as error:
            ended, reason = "collapsed", str(error)
        except Exception as error:  # the others go on
            ended, reason = "failed", one_line(error) or str(error) or type(error).__name__
            log.warning("failed: %s", reason, exc_info=one_line(error) is None)
        return result_of(point, directory, self._trained.get(point.name, 0), ended, reason)

    async def _train(self, point: Point, directory: RunDirectory, shared: SharedComponents | None) -> None:
        prepared, resume = self._prepared[point.name], holds_run(directory.path)
        directory = (
            RunDirectory.open(directory.path) if resume else RunDirectory.create(directory.path, prepared.config)
        )
        self._board.on_start(point.name, [accuracy for _, accuracy in directory.curve()])
        opened = partial(open_components, longest_row=prepared.longest_row) if shared is None else shared.open
        async with opened(prepared.config, point.name, prepared.encode) as parts:
            facts = await _facts(parts.learner)
            say_checkpointing(prepared.config, facts)
            self._trained[point.name] = facts["trained_parameters"]
            display = BoardSink(self._board, point.name)
            async with open_sinks(prepared.config, directory, display, prepared.config.name) as sinks:
                judged = EarlyStoppedSinks(sinks, self._stopper, point)
                await train_with_restarts(prepared, parts, directory, judged, resume=resume)

    def _note(self, result: Result) -> None:
        self._results[result.directory] = result
        self._board.on_end(result.directory, result.ended, [accuracy for _, accuracy in result.curve], result.reason)
        with best_effort("what the sweep has found so far could not be written"):  # the end of it writes all again
            write_all(self._ordered(), self._path / RESULTS)
            store_on_page(submission_id(), (self._path / RESULTS).read_bytes())

    def _ordered(self) -> list[Result]:
        return [self._results[point.name] for point in self._points if point.name in self._results]


class EarlyStoppedSinks(Sinks):
    """The sinks of a run, and the scheduler, which may end it once the step is written down."""

    def __init__(self, sinks: Sinks, stopper: EarlyStopper, point: Point) -> None:
        super().__init__([sinks])
        self._stopper = stopper
        self._point = point

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        super().on_step(step, metrics, groups)
        accuracy = metrics.get("eval/accuracy")
        if accuracy is None or step == self._point.config.num_steps:
            return
        if self._stopper.should_stop(self._point.name, step, accuracy):
            raise StoppedEarly


async def _facts(learner: Learner) -> Mapping[str, int]:
    try:
        return await learner.facts()
    except LearnerDied:  # between two runs of a sweep
        await learner.restart()
        return await learner.facts()


def _groups(points: Sequence[Point]) -> list[list[Point]]:
    """Points that can share a base model, in the order of their first; full fine-tuning shares none."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(shared_settings(point.config), []).append(point)
    return list(groups.values())
