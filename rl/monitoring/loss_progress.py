"""What a person sees while a supervised run goes on: a live display on a terminal, log lines anywhere else."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.console import Group as Stack
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from rl.algorithm.evaluate import Evaluation
from rl.monitoring.plain_text import plain
from rl.monitoring.progress import shares, sparkline
from rl.run.sinks import Ended, Sink
from rl.types import Group


class LossLines(Sink):
    """One line an evaluation and one a step, readable on a cluster job's page."""

    def __init__(self, console: Console, num_steps: int) -> None:
        self._console = console
        self._num_steps = num_steps

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        """Its numbers come with the step's."""

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        if "eval/log_loss" in metrics:
            right = f"  accuracy {metrics['eval/accuracy']:.3f}" if "eval/accuracy" in metrics else ""
            self._print(step, f"held-out log-loss {metrics['eval/log_loss']:.4f} nats a token{right}")
        if "update/loss" in metrics:
            speed = metrics["throughput/update_tokens_per_s"]
            self._print(step, f"loss {metrics['update/loss']:.4f}  {speed:.0f} tokens/s")

    def close(self, ended: Ended) -> None:
        """Nothing to release."""

    def _print(self, step: int, text: str) -> None:
        line = f"step {step:4d}/{self._num_steps}  {text}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LossTable(Sink):
    """Step, losses, tokens a second and time left."""

    def __init__(self, console: Console, title: str, num_steps: int, done: Sequence[Mapping[str, Any]] = ()) -> None:
        self._title = title
        self._rows: list[Mapping[str, Any]] = list(done)
        self._bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._task = self._bar.add_task("", total=num_steps, completed=min(len(done), num_steps))
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=2)
        self._live.start()

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        """Its numbers come with the step's."""

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        self._rows.append(metrics)
        self._bar.update(self._task, completed=step + ("update/loss" in metrics))

    def close(self, ended: Ended) -> None:
        self._live.stop()

    def _render(self) -> Panel:
        table = Table.grid(padding=(0, 2))
        for words, name in (("held-out log-loss", "eval/log_loss"), ("loss", "update/loss")):
            if values := self._values(name):
                table.add_row(words, f"[bold green]{values[-1]:.4f}[/]", sparkline(shares(values)))
        if values := self._values("eval/accuracy"):
            table.add_row("held-out accuracy", f"[bold green]{values[-1]:.3f}[/]", sparkline(values))
        if values := self._values("throughput/update_tokens_per_s"):
            table.add_row("tokens/s", f"{values[-1]:.0f}")
        return Panel(Stack(self._bar, table), title=plain(self._title), title_align="left")

    def _values(self, name: str) -> list[float]:
        return [row[name] for row in self._rows if name in row]
