"""The page of curves, shown in a terminal."""

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from rl.jobs.errors import ClusterError
from rl.jobs.page_client import PageClient
from rl.monitoring.plain_text import plain
from rl.monitoring.progress import shares, sparkline

STYLES = {"running": "blue", "finished": "green", "stopped": "yellow", "failed": "red", "silent": "red"}
MOST_RUNS = 20
CURVE_WIDTH = 12
WIDE = 120
"""Columns that a terminal needs for the settings too."""


def watch(page: PageClient, job: str | None, console: Console, every: float | None) -> None:
    """Show the runs, or one of them, every so many seconds until none runs; once if `every` is None.

    A cluster that has answered once is waited for when it stops answering.

    Raises:
        ClusterError: it does not answer at first.
        ValueError: it has no page, or knows no such run.
    """
    runs = _runs(page, job)
    if every is None or not console.is_terminal:
        console.print(view(runs, console.width), markup=False)
        return
    with Live(view(runs, console.width), console=console, auto_refresh=False) as live:
        while any(run["state"] == "running" for run in runs):
            time.sleep(every)
            try:
                runs = _runs(page, job)
                live.update(view(runs, console.width), refresh=True)
            except ClusterError as error:
                live.update(Group(view(runs, console.width), Text(f"{error}; trying again", "red")), refresh=True)


def view(runs: Sequence[dict[str, Any]], width: int = 80) -> RenderableType:
    """Return a table with a line a run: its state, its curve as bars and in numbers, and how far it is.

    The curve is of held-out accuracy, or of log-loss, in nats a token, where a supervised run has nothing else.
    """
    wide = width >= WIDE
    name = Column("run", no_wrap=True)  # whoever wants to stop it needs it whole
    curve = Column("curve", no_wrap=True)  # its end is the latest
    table = Table(name, "state", curve, "now", "best", "step", *(["settings"] if wide else []), box=None)
    for run in runs[:MOST_RUNS]:
        settings = run["settings"]
        table.add_row(
            plain(run["id"]),
            Text(run["state"], STYLES.get(run["state"], "")),
            *_curve(run),
            f"{run['step']}/{run['num_steps']}",
            *([plain(f"rank {settings['rank']}, lr {settings['lr']:g}, {settings['model']}")] if wide else []),
        )
    if not runs:
        return Text("no run has reported yet")
    if len(runs) > MOST_RUNS:
        return Group(table, Text(f"and {len(runs) - MOST_RUNS} older runs", "dim"))
    return table


def _curve(run: dict[str, Any]) -> tuple[str, str, str]:
    """Return the bars, the latest value and the best one."""
    if values := [accuracy for _, _, accuracy in run["curve"]]:
        return sparkline(values, CURVE_WIDTH), f"{values[-1]:.3f}", f"{run['best']:.3f}"
    if values := [nats for _, _, nats in run["loss"] if nats is not None]:
        bars = sparkline(shares(values), CURVE_WIDTH)
        return bars, f"{values[-1]:.3f} nats", f"{run['least']:.3f} nats"
    return "", "", ""


def _runs(page: PageClient, job: str | None) -> list[dict[str, Any]]:
    runs = [run for run in page.runs() if job in (None, run["id"], run["submission_id"])]
    if job is not None and not runs:
        raise ValueError(f"the cluster's page knows no run {job}; `rankone watch` shows those that it knows")
    return runs
