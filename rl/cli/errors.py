"""The end of a command when something is wrong: one clear line, and an exit status."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer

from rl.errors import one_line

P = ParamSpec("P")


def one_line_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Print a user's mistake (ValueError) as one line with exit status 2, and a foreseen end as one line with status 1.

    `RANKONE_DEBUG=1` shows where it arose.
    """

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            _require_working_directory()
            command(*args, **kwargs)
        except Exception as error:
            line = one_line(error)
            if line is None or os.environ.get("RANKONE_DEBUG"):
                raise
            print(f"rankone: {line}", file=sys.stderr)
            raise typer.Exit(2 if isinstance(error, ValueError) else 1) from None

    return guarded


def _require_working_directory() -> None:
    try:
        os.getcwd()  # noqa: PTH109
    except OSError as error:
        raise ValueError(
            f"the directory that this was started in cannot be used ({error.strerror}): change to another one"
        ) from None
