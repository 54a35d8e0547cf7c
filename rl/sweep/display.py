"""The display of a sweep while it goes on: a table on a terminal, log lines anywhere else."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

from rl.algorithm.evaluation.held_out import Evaluation
from rl.monitoring.best_effort import best_effort
from rl.monitoring.plain_text import plain
from rl.monitoring.progress import shares, sparkline
from rl.run.best_metric import ACCURACY, BestMetric
from rl.run.sinks import Ended, Sink
from rl.types import Group

SHOWN = 24
"""Rows of the table at most: those that run come first."""


@dataclass(slots=True)
class _Row:
    name: str
    num_steps: int
    step: int = 0
    progress: float | None = None
    curve: list[float] = field(default_factory=list[float])
    state: str = "waiting"


class Board:
    """The runs of a sweep at a glance."""

    def __init__(
        self,
        console: Console,
        title: str,
        runs: Mapping[str, int],
        metric: BestMetric = ACCURACY,
        progress: str = "reward",
    ) -> None:
        """`runs` are their names with their numbers of steps, `metric` compares them, and `progress` is what each step
        has to show."""
        self._console = console
        self._title = title
        self._metric = metric
        self._progress = progress
        self._rows = {name: _Row(name, num_steps) for name, num_steps in runs.items()}
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=2)

    def __enter__(self) -> "Board":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def on_start(self, name: str, curve: Sequence[float]) -> None:
        """A run starts, or goes on after these evaluations."""
        self._rows[name].state, self._rows[name].curve = "running", list(curve)

    def on_end(self, name: str, how: str, curve: Sequence[float], reason: str = "") -> None:
        """A run is done, now or already when the sweep was resumed."""
        row = self._rows[name]
        row.state, row.curve = how, list(curve)
        done = sum(known.state not in ("waiting", "running") for known in self._rows.values())
        last = f"{self._metric.words} {curve[-1]:.3f}" if curve else "never evaluated"
        self._say(f"{done}/{len(self._rows)}  {name}  {how}, {last}  {self._bars(row)}  {reason}".rstrip())

    def on_eval(self, name: str, step: int, value: float) -> None:
        """A policy was evaluated."""
        row = self._rows[name]
        row.curve.append(value)
        self._say(f"{name}  step {step}/{row.num_steps}  {self._metric.words} {value:.3f}  {self._bars(row)}")

    def on_step(self, name: str, step: int, progress: float) -> None:
        """A step is done."""
        row = self._rows[name]
        row.step, row.progress = step + 1, progress

    def _bars(self, row: _Row, width: int = 40) -> str:
        """Return the run's curve as bars; of a metric that may be above 1, by its largest value."""
        return sparkline(row.curve if self._metric.higher_is_better else shares(row.curve), width)

    def _say(self, line: str) -> None:
        if not self._console.is_terminal:
            with best_effort("the sweep's progress cannot be shown"):
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        done = [row for row in self._rows.values() if row.state not in ("waiting", "running")]
        running = [row for row in self._rows.values() if row.state == "running"]
        waiting = len(self._rows) - len(done) - len(running)
        title = f"{self._title}: {len(done)} done, {len(running)} running, {waiting} waiting"
        table = Table(title=plain(title), title_justify="left")
        for column in ("run", "step", self._progress, self._metric.words, ""):
            table.add_column(column, no_wrap=True)
        best = sorted(done, key=lambda row: self._metric.score(row.curve[-1]) if row.curve else -math.inf, reverse=True)
        for row in [*running, *best][:SHOWN]:
            value = f"{row.curve[-1]:.3f}  {self._bars(row, 20)}" if row.curve else ""
            progress = "" if row.progress is None else f"{row.progress:.3f}"
            table.add_row(plain(row.name), f"{row.step}/{row.num_steps}", progress, value, row.state)
        return table


class BoardSink(Sink):
    """Tells the board of one run."""

    def __init__(self, board: Board, name: str, metric: BestMetric, progress: str) -> None:
        """`progress` is the name of the metric that each step has to show."""
        self._board = board
        self._name = name
        self._metric = metric
        self._progress = progress
        self._shown = -1

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        self._show(step, evaluation.metrics())

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        self._show(step, metrics)
        if self._progress in metrics:
            self._board.on_step(self._name, step, metrics[self._progress])

    def close(self, ended: Ended) -> None:
        """The sweep says how it ended."""

    def _show(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show the evaluation, which is in the step's metrics too."""
        value = self._metric.value(metrics)
        if value is not None and step != self._shown:
            self._shown = step
            self._board.on_eval(self._name, step, value)
