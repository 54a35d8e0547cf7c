"""The parts that displays of all kinds of runs share: lines of a log, and a panel with a progress bar."""

from abc import abstractmethod
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

from rl.monitoring.plain_text import plain
from rl.run.sinks import Ended, Sink


class StepLines(Sink):
    """Prints lines that begin with their step, readable on a cluster job's page."""

    def __init__(self, console: Console, num_steps: int) -> None:
        self._console = console
        self._num_steps = num_steps

    def close(self, ended: Ended) -> None:
        """Do nothing: each line is out once it is printed."""

    def _print(self, step: int, text: str) -> None:
        line = f"step {step:4d}/{self._num_steps}  {text}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LivePanel(Sink):
    """Redraws a panel in place twice a second: a bar of the steps, and below it `_body`."""

    def __init__(self, console: Console, title: str, num_steps: int, completed: int, time_left: ProgressColumn) -> None:
        self._title = title
        self._bar = Progress(
            TextColumn("step"), MofNCompleteColumn(), BarColumn(bar_width=None), TimeElapsedColumn(), time_left
        )
        self._task = self._bar.add_task("", total=num_steps, completed=completed, left="")
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=2)
        self._live.start()

    def close(self, ended: Ended) -> None:
        self._live.stop()

    @abstractmethod
    def _body(self) -> Sequence[RenderableType]:
        """Return what stands below the bar."""

    def _render(self) -> Panel:
        return Panel(Group(self._bar, *self._body()), title=plain(self._title), title_align="left")
