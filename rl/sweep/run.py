"""Run a sweep: as many policies together as have a place, one loop each, the others after them.

Every run has a directory of its own, as if `rankone train` or `rankone sft` had made it; a sweep that is resumed leaves
those alone that are done, and goes on with the others from their checkpoints.
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from lora.base.load import load_skeleton
from lora.trainable.inject import inject
from rl.algorithm.guard.collapse import Collapse
from rl.config import RunConfig
from rl.data import check_step_size
from rl.errors import one_line
from rl.launch.logs import current_run, logging_to
from rl.launch.recipe import Prepared, Recipe
from rl.launch.recipes import RECIPES
from rl.launch.session import Outcome, Run, Session, Watcher
from rl.monitoring.best_effort import best_effort
from rl.monitoring.dashboard.reporter import store_on_page
from rl.monitoring.dashboard.run_info import submission_id
from rl.run.best_metric import BestMetric
from rl.run.directory import RunDirectory, holds_run
from rl.run.sinks import Ended as RunEnded
from rl.run.sinks import Sink, Sinks, StoppedEarly
from rl.sweep.display import Board, BoardSink
from rl.sweep.early_stopping import EarlyStopper
from rl.sweep.findings import RESULTS
from rl.sweep.points import Point, Sweep
from rl.sweep.results import Ended, Result, load_final, result_of, save_final, write_all
from rl.types import Group

log = logging.getLogger(__name__)


def prepare_sweep(sweep: Sweep) -> list[Prepared]:
    """Load and check the data of every run; runs with the same data share it. Raises ValueError as `prepare` does."""
    recipe = RECIPES[sweep.config.recipe]
    loaded: dict[str, Prepared] = {}
    runs: list[Prepared] = []
    for point in sweep.points:
        try:
            config = recipe.resolve(point.config, sweep.directory)
            key = _data_key(config)
            if key not in loaded:
                loaded[key] = recipe.prepare(point.config, sweep.directory)
            check_step_size(loaded[key].problems.train, config.problems_per_step)
        except ValueError as error:
            raise ValueError(f"{point.name}: {error}") from None
        runs.append(replace(loaded[key], config=config))
    _check_layers(sweep.points, runs)
    return runs


def _data_key(config: RunConfig) -> str:
    """Return what runs must have in common to be prepared alike."""
    begins = config.lora if config.lora.init else None
    parts = (config.seed, config.data, config.model, config.prompt, config.room_for_prompt, config.episodes)
    measured = config.evaluate.num_test, config.evaluate.sets
    compared = config.teacher, config.learner.kl_reference
    return repr((*parts, *measured, *compared, config.reward, config.sft, begins))


def _check_layers(points: Sequence[Point], runs: Sequence[Prepared]) -> None:
    """Raises ValueError if a model lacks a layer that a run adapts: the weights are not needed to see that."""
    skeletons: dict[str, Any] = {}
    for point, run in zip(points, runs, strict=True):
        model, lora = run.config.model, run.config.lora
        skeleton = skeletons.setdefault(model.name, None) or load_skeleton(model)
        skeletons[model.name] = skeleton
        try:
            inject(skeleton, lora)
        except ValueError as error:
            raise ValueError(f"{point.name}: {error}") from None


def run_sweep(
    sweep: Sweep, prepared: Sequence[Prepared], path: Path, console: Console, *, at_once: int | None = None
) -> list[Result]:
    """Train all policies that are not trained yet, and return what became of each.

    Ctrl-C and SIGTERM leave all of them usable.
    """
    recipe = RECIPES[sweep.config.recipe]
    steps = {point.name: point.config.num_steps for point in sweep.points}
    board = Board(console, sweep.name, steps, recipe.best, recipe.progress[1])
    with logging_to(console), board:
        watcher = SweepWatcher(sweep, path, board)
        done = watcher.recall()
        runs = [
            _run(point, recipe, run, path / point.name)
            for point, run in zip(sweep.points, prepared, strict=True)
            if point.name not in done
        ]
        Session(runs, watcher, at_once=at_once or sweep.config.policies_at_once, locks=True).run()
        return watcher.results()


def _run(point: Point, recipe: Recipe[Any, Any], prepared: Prepared, path: Path) -> Run:
    name = prepared.config.name
    return Run(point.name, recipe, prepared, path, resume=holds_run(path), title=point.name, page_name=name)


class SweepWatcher(Watcher):
    """Shows the runs of a sweep on a board, stops the worst early, and writes down what became of each."""

    def __init__(self, sweep: Sweep, path: Path, board: Board) -> None:
        self._points = {point.name: point for point in sweep.points}
        self._recipe = RECIPES[sweep.config.recipe]
        self._path = path
        self._board = board
        self._stopper = EarlyStopper(sweep.config.stop, max(point.config.num_steps for point in sweep.points))
        self._results: dict[str, Result] = {}

    def recall(self) -> set[str]:
        """Take in what was done before the sweep was interrupted, and return the names of the runs that are done.

        The stopper hears of it in the order in which it happened.
        """
        metric = self._recipe.best
        rows: list[tuple[float, str, dict[str, Any]]] = []
        for name in self._points:
            directory = RunDirectory(self._path / name)
            if (result := load_final(directory.path)) is not None:
                self._note(result)
            rows += [(row.get("time", 0.0), name, row) for row in directory.metrics() if metric.name in row]
        for _, name, row in sorted(rows, key=lambda row: row[0]):
            self._stopper.should_stop(name, row["step"], metric.score(row[metric.name]))
        return set(self._results)

    def results(self) -> list[Result]:
        """Return what became of each, in the sweep's order."""
        return [self._results[name] for name in self._points if name in self._results]

    def on_begin(self, run: Run) -> None:
        current_run.set(run.name)
        curve = RunDirectory(run.path).curve(run.recipe.best.name)
        self._board.on_start(run.name, [value for _, value in curve])

    def on_open(self, run: Run, facts: Mapping[str, int]) -> None:
        """Advice on one run is no use where its settings are tried on purpose."""

    def sink(self, run: Run, directory: RunDirectory) -> Sink:
        metric, (progress, _) = run.recipe.best, run.recipe.progress
        board = BoardSink(self._board, run.name, metric, progress)
        return Sinks([board, EarlyStopSink(self._stopper, self._points[run.name], metric)])

    def on_end(self, outcome: Outcome) -> None:
        directory = RunDirectory(outcome.run.path)
        ended, reason = _ended(outcome.error)
        if ended == "failed" and outcome.error is not None and outcome.began:
            unforeseen = one_line(outcome.error) is None
            log.warning("failed: %s", reason, exc_info=outcome.error if unforeseen else None)
        point = replace(self._points[outcome.run.name], config=outcome.run.config)  # with the names of its layers
        trained = outcome.trained_parameters
        result = result_of(point, self._recipe, directory, trained, ended, reason)
        if outcome.began:
            with best_effort("its result could not be kept, so a resumed sweep will look at the run again"):
                save_final(result, directory.path)
            if result.is_final and result.weights == "full":  # gigabytes a run, and never gone on with
                shutil.rmtree(directory.checkpoints, ignore_errors=True)
        self._note(result)

    def _note(self, result: Result) -> None:
        self._results[result.directory] = result
        self._board.on_end(result.directory, result.ended, [value for _, value in result.curve], result.reason)
        with best_effort("what the sweep has found so far could not be written"):  # the end of it writes all again
            write_all(self.results(), self._path / RESULTS)
            store_on_page(submission_id(), (self._path / RESULTS).read_bytes())


def _ended(error: Exception | None) -> tuple[Ended, str]:
    """Return how a run ended, and why."""
    match error:
        case None:
            return "finished", ""
        case StoppedEarly():
            return "stopped_early", ""
        case Collapse():
            return "collapsed", str(error)
        case _:
            return "failed", one_line(error) or str(error) or type(error).__name__


class EarlyStopSink(Sink):
    """Tells the scheduler of a run's evaluations, and ends the run if it says so, once the step is written down."""

    def __init__(self, stopper: EarlyStopper, point: Point, metric: BestMetric) -> None:
        self._stopper = stopper
        self._point = point
        self._metric = metric

    def on_eval(self, step: int, evaluation: object) -> None:
        """Its numbers come with the step's."""

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        value = self._metric.value(metrics)
        if value is None or step == self._point.config.num_steps:
            return
        if self._stopper.should_stop(self._point.name, step, self._metric.score(value)):
            raise StoppedEarly

    def close(self, ended: RunEnded) -> None:
        """Nothing to release."""
