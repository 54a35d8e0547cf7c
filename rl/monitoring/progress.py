"""Progress of a run: a live display on a terminal, log lines anywhere else."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import TextColumn
from rich.table import Table
from rich.text import Text

from lora.messages import shortened, single_line
from rl.algorithm.evaluation.held_out import Evaluation
from rl.monitoring.plain_text import plain
from rl.monitoring.terminal import LivePanel, StepLines
from rl.types import Group

BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Draw values between 0 and 1 as bars, the last `width` of them; a gap for what is no number."""
    return "".join(
        BARS[min(len(BARS) - 1, max(0, int(min(1.0, value) * len(BARS))))] if value > -math.inf else " "
        for value in values[-width:]
    )


def shares(values: Sequence[float]) -> list[float]:
    """Divide the values by the largest finite one."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0) or 1.0
    return [value / largest for value in values]


class LogLines(StepLines):
    """One line an evaluation and one a step."""

    def __init__(self, console: Console, num_steps: int, curve: Sequence[float] = ()) -> None:
        super().__init__(console, num_steps)
        self._curve = list(curve)

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        self._curve.append(evaluation.accuracy)
        self._print(step, f"held-out accuracy {evaluation.accuracy:.3f}  {sparkline(self._curve)}")

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        if "reward/mean" in metrics:
            speed = metrics["throughput/sample_tokens_per_s"]
            self._print(step, f"reward {metrics['reward/mean']:.3f}  {speed:.0f} tokens/s  {_phases(metrics)}")


class LiveDisplay(LivePanel):
    """Step, reward, held-out accuracy, tokens a second and time left, and now and then what the model wrote."""

    def __init__(self, console: Console, title: str, num_steps: int, first: int, curve: Sequence[float] = ()) -> None:
        self._num_steps = num_steps
        self._first = first
        self._started = time.monotonic()
        self._curve = list(curve)
        self._rewards: list[float] = []
        self._metrics: dict[str, float] = {}
        self._sample: Group | None = None
        super().__init__(console, title, num_steps, first, TextColumn("{task.fields[left]}"))

    def on_eval(self, step: int, evaluation: Evaluation) -> None:
        self._curve.append(evaluation.accuracy)
        self._sample = evaluation.groups[step % len(evaluation.groups)]

    def on_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        self._metrics |= metrics
        if groups:
            self._rewards.append(metrics["reward/mean"])
            self._sample = groups[step % len(groups)]
            self._bar.update(self._task, completed=step + 1, left=self._left(step + 1))

    def _left(self, done: int) -> str:
        per_step = (time.monotonic() - self._started) / (done - self._first)
        minutes, seconds = divmod(round(per_step * (self._num_steps - done)), 60)
        return f"{minutes}:{seconds:02d} left"

    def _body(self) -> Sequence[RenderableType]:
        return [self._numbers(), *self._written()]

    def _numbers(self) -> Table:
        table = Table.grid(padding=(0, 2))
        if self._curve:
            table.add_row("held-out accuracy", f"[bold green]{self._curve[-1]:.3f}[/]", sparkline(self._curve))
        if self._rewards:
            table.add_row("reward", f"{self._rewards[-1]:.3f}", sparkline(self._rewards))
            table.add_row("tokens/s", f"{self._metrics['throughput/sample_tokens_per_s']:.0f}", _phases(self._metrics))
        else:
            table.add_row("[dim]evaluating the untrained model...[/]" if not self._curve else "[dim]first step...[/]")
        return table

    def _written(self) -> list[Any]:
        if self._sample is None:
            return []
        question = plain(_cut(self._sample.problem.question))
        lines: list[Any] = [Text.assemble("\n", (question.plain, "dim"))]
        graded = list(zip(self._sample.completions, self._sample.rewards, strict=True))
        for completion, reward in graded[:3]:
            mark = ("✓", "green") if reward.value > 0 else ("✗", "red")
            written = plain(_cut(completion.text))
            lines.append(Text.assemble("  ", mark, " ", written, (f" ({reward.outcome})", "dim")))
        return lines


def _phases(metrics: Mapping[str, float]) -> str:
    phases = ("sample", "grade", "update")
    return " + ".join(f"{phase} {metrics[f'time/{phase}_s']:.1f} s" for phase in phases if f"time/{phase}_s" in metrics)


def _cut(text: str) -> str:
    return shortened(single_line(text), 100, "…")
