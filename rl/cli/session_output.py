"""The lines that commands print before and after training."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

import typer
from rich.console import Console

from rl.cluster.interrupts import STATUS


@contextmanager
def interruptible(console: Console, again: str) -> Generator[None]:
    """End the command when it is interrupted inside the block, and say with which one to go on."""
    try:
        yield
    except (KeyboardInterrupt, asyncio.CancelledError):
        say(console, f"\nstopped; go on with: {again}")
        raise typer.Exit(STATUS) from None


def say(console: Console, line: str) -> None:
    """Print somebody's text as it is."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)
