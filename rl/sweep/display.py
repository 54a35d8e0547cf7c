"""What a person sees while a sweep goes on: a table on a terminal, log lines anywhere else."""

import contextvars
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

from rl.algorithm.evaluate import Evaluation
from rl.monitoring.best_effort import best_effort
from rl.monitoring.plain_text import plain
from rl.monitoring.progress import sparkline
from rl.run.directory import ALARM
from rl.run.sinks import Ended, Sink
from rl.types import Group

SHOWN = 24
"""Rows of the table at most: those that run come first."""

current_run: contextvars.ContextVar[str] = contextvars.ContextVar("speaking", default="")
"""Which run the present task belongs to, for the log."""


class NameRuns(logging.Filter):
    """Puts the run's name before what is logged about it, and says of a run's alarms the first alone: they may come at
    every step, and its metrics count them."""

    def __init__(self) -> None:
        super().__init__()
        self._alarmed: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if name := current_run.get():
            if getattr(record, "kind", None) == ALARM["kind"]:
                if name in self._alarmed:
                    return False
                self._alarmed.add(name)
            record.msg = f"{name}: {record.getMessage()}"
            record.args = None
        return True


@dataclass(slots=True)
class _Row:
    name: str
    num_steps: int
    step: int = 0
    reward: float | None = None
    curve: list[float] = field(default_factory=list[float])
    state: str = "waiting"


class Board:
    """All runs at a glance."""

    def __init__(self, console: Console, title: str, runs: Mapping[str, int]) -> None:
        """`runs` are their names with their numbers of steps."""
        self._console = console
        self._title = title
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
        """A run starts, or goes on after these accuracies."""
        self._rows[name].state, self._rows[name].curve = "running", list(curve)

    def on_end(self, name: str, how: str, curve: Sequence[float], reason: str = "") -> None:
        """A run is done, now or already when the sweep was resumed."""
        row = self._rows[name]
        row.state, row.curve = how, list(curve)
        done = sum(one.state not in ("waiting", "running") for one in self._rows.values())
        last = f"held-out accuracy {curve[-1]:.3f}" if curve else "never evaluated"
        self._say(f"{done}/{len(self._rows)}  {name}  {how}, {last}  {sparkline(row.curve)}  {reason}".rstrip())

    def on_eval(self, name: str, step: int, accuracy: float) -> None:
        """A policy was evaluated."""
        row = self._rows[name]
        row.curve.append(accuracy)
        self._say(f"{name}  step {step}/{row.num_steps}  held-out accuracy {accuracy:.3f}  {sparkline(row.curve)}")

    def on_step(self, name: str, step: int, reward: float) -> None:
        """A step is done."""
        row = self._rows[name]
        row.step, row.reward = step + 1, reward

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
        for column in ("run", "step", "reward", "held-out accuracy", ""):
            table.add_column(column, no_wrap=True)
        best = sorted(done, key=lambda row: -(row.curve[-1] if row.curve else -1))
        for row in [*running, *best][:SHOWN]:
            accuracy = f"{row.curve[-1]:.3f}  {sparkline(row.curve, 20)}" if row.curve else ""
            reward = "" if row.reward is None else f"{row.reward:.3f}"
            table.add_row(plain(row.name), f"{row.step}/{row.num_steps}", reward, accuracy, row.state)
        return table


class BoardSink(Sink):
    """Tells the board of one run."""

    def __init__(self, board: Board, name: str) -> None:
        self._board = board
        self._name = name

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        self._board.on_eval(self._name, step, evaluation.accuracy)

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        if "reward/mean" in metrics:
            self._board.on_step(self._name, step, metrics["reward/mean"])

    def close(self, ended: Ended) -> None:
        """The sweep says how it ended."""
