"""The sinks of a run: the display in front of it, and trackers, the page and Ray's metrics as it is configured."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from functools import partial

from rl.config import RunConfig
from rl.monitoring.dashboard.reporter import DashboardReporter
from rl.monitoring.dashboard.run_info import run_info
from rl.monitoring.ray_metrics import RayMetrics
from rl.monitoring.trackers import TRACKERS, TensorBoard
from rl.run.directory import RunDirectory
from rl.run.sinks import Ended, Sink, Sinks, StoppedEarly, start_sinks


@contextlib.asynccontextmanager
async def open_sinks(
    config: RunConfig, directory: RunDirectory, display: Sink, name: str | None = None
) -> AsyncGenerator[Sinks]:
    """Open all sinks of a run, and tell them in the end how it ended.

    `name` is the run's on the page and in trackers, by default its directory's.
    """
    sinks = Sinks([display, *make_sinks(config, directory, min(len(directory.metrics()), config.num_steps), name)])
    ended: Ended = "failed"
    try:
        yield sinks
        ended = "finished"
    except (asyncio.CancelledError, StoppedEarly):
        ended = "stopped"
        raise
    finally:
        sinks.close(ended)


def make_sinks(config: RunConfig, directory: RunDirectory, first: int, name: str | None = None) -> list[Sink]:
    """Return the sinks of a run besides its display. `first` is the next step; `name` defaults to the directory's."""
    info = run_info(config, directory.path, directory.kind or "train", name)
    more: dict[str, Callable[[], Sink]] = {
        name: partial(tracker, config, info) for name, tracker in TRACKERS.items() if getattr(config, name) is not None
    }
    if config.tensorboard:
        more["TensorBoard"] = lambda: TensorBoard(directory.tensorboard, first)
    if config.on_ray:
        more |= {"the page": lambda: DashboardReporter(info, directory), "Ray's metrics": lambda: RayMetrics(info)}
    return start_sinks(more)
