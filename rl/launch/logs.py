"""The log of all packages, in front of the person who runs them."""

import contextvars
import logging
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler

from rl.run.journal import ALARM

PACKAGES = ("rl", "rollout", "rewards", "lora")
current_run: contextvars.ContextVar[str] = contextvars.ContextVar("current_run", default="")
"""The run that the present task belongs to, where there are several."""


@contextmanager
def logging_to(console: Console) -> Generator[None]:
    """Show the log of all packages there inside the block, each run's lines under its name where there are several."""
    handler = RichHandler(console=console, show_time=False, show_path=False, markup=False)
    handler.addFilter(NameRuns())
    loggers = [logging.getLogger(package) for package in PACKAGES]
    before = [(logger, logger.handlers, logger.level) for logger in loggers]
    for logger in loggers:
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, handlers, level in before:
            logger.handlers = handlers
            logger.setLevel(level)


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
