"""Progress of a supervised run: a live display on a terminal, log lines anywhere else."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import TimeRemainingColumn
from rich.table import Table

from rl.algorithm.evaluation.held_out import Evaluation
from rl.monitoring.progress import shares, sparkline
from rl.monitoring.terminal import LivePanel, StepLines
from rl.types import Group


class LossLines(StepLines):
    """One line an evaluation and one a step."""

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        """Do nothing: the figures come with the step's."""

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        if "eval/log_loss" in metrics:
            right = f"  accuracy {metrics['eval/accuracy']:.3f}" if "eval/accuracy" in metrics else ""
            self._print(step, f"held-out log-loss {metrics['eval/log_loss']:.4f} nats a token{right}")
        if "update/loss" in metrics:
            speed = metrics["throughput/update_tokens_per_s"]
            self._print(step, f"loss {metrics['update/loss']:.4f}  {speed:.0f} tokens/s")


class LossTable(LivePanel):
    """Step, losses, tokens a second and time left."""

    def __init__(self, console: Console, title: str, num_steps: int, done: Sequence[Mapping[str, Any]] = ()) -> None:
        self._rows: list[Mapping[str, Any]] = list(done)
        super().__init__(console, title, num_steps, min(len(done), num_steps), TimeRemainingColumn())

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        """Do nothing: the figures come with the step's."""

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        self._rows.append(metrics)
        self._bar.update(self._task, completed=step + ("update/loss" in metrics))

    def _body(self) -> Sequence[RenderableType]:
        table = Table.grid(padding=(0, 2))
        for words, name in (("held-out log-loss", "eval/log_loss"), ("loss", "update/loss")):
            if values := self._values(name):
                table.add_row(words, f"[bold green]{values[-1]:.4f}[/]", sparkline(shares(values)))
        if values := self._values("eval/accuracy"):
            table.add_row("held-out accuracy", f"[bold green]{values[-1]:.3f}[/]", sparkline(values))
        if values := self._values("throughput/update_tokens_per_s"):
            table.add_row("tokens/s", f"{values[-1]:.0f}")
        return [table]

    def _values(self, name: str) -> list[float]:
        return [row[name] for row in self._rows if name in row]
