"""The commands that need no model: grade a file of completions, and try a reward function."""

import asyncio
import contextlib
import os
import stat
import sys
import time
from collections.abc import Callable, Generator
from itertools import islice
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lora.files.ordinary_file import open_file
from rewards.config import RewardConfig
from rewards.grading.preflight import preflight
from rewards.grading.stream import Row, Summary, grade_stream, read_problem
from rewards.json_row import parse_row
from rewards.math_answer import check_answers
from rewards.types import Outcome, Problem
from rl.cli.errors import one_line_errors
from rl.config import replaced
from rl.learner.reward_model import open_pool
from rl.settings.toml import load_config

Function = Annotated[
    str, typer.Option("--function", help="math_answer, file.py:name or package.module:name.", metavar="NAME")
]
Deadline = Annotated[float, typer.Option("--deadline", help="Seconds one completion may take.", metavar="SECONDS")]
Workers = Annotated[int | None, typer.Option("--workers", help="Grading processes; one per two cores by default.")]
Memory = Annotated[int, typer.Option("--memory-mb", help="Address space of one grading process.", metavar="MB")]


@one_line_errors
def grade_command(
    source: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="JSON lines; standard input by default.")
    ] = None,
    function: Function = "math_answer",
    deadline: Deadline = 5.0,
    workers: Workers = None,
    memory_mb: Memory = 2048,
) -> None:
    """Grade JSON lines of {"answer", "completion"}: the same lines come out with value, outcome and seconds.

    Lines that cannot be read are reported by number and left out; the exit status is then 2. A line's "question", if
    it has one, is used too: where it asks for a percentage, 60 and 60% are the same.
    """
    config = _config(function, deadline, workers, memory_mb)
    try:
        summary = asyncio.run(_grade(source, config))
    except ValueError as error:
        raise _stopped(error) from error
    except BrokenPipeError:
        # The reader has had enough (`| head`). Point stdout elsewhere, or Python complains when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    counted = ", ".join(f"{count} {outcome}" for outcome, count in summary.outcomes.items() if count)
    typer.echo(f"{summary.graded} graded ({counted or 'none'}), {summary.malformed} malformed", err=True)
    if summary.malformed:
        raise typer.Exit(2)


@one_line_errors
def reward_try_command(
    function: Annotated[
        str,
        typer.Argument(
            help="file.py:name, package.module:name, math_answer, or a configuration (run.toml), for its reward."
        ),
    ],
    data: Annotated[
        Path, typer.Option("--data", exists=True, dir_okay=False, help="JSON lines with a question and an answer.")
    ],
    limit: Annotated[int, typer.Option("--limit", min=1, help="Rows to read.")] = 20,
    deadline: Deadline = 5.0,
    memory_mb: Memory = 2048,
) -> None:
    """Try a reward function, or the reward of a configuration (run.toml), on a data set, without a model.

    It is run in the process a training run would use, on right and wrong completions made up from the answers, and on
    the rows' own "completion" where they have one.
    """
    try:
        config = _config(function, deadline, 1, memory_mb)
        if function.endswith(".toml"):
            config = replaced(load_config(function).reward, workers=1)
        report, failed = asyncio.run(_try(config, *_rows(data, limit)))
    except ValueError as error:
        raise _stopped(error) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    typer.echo(report)
    if failed:
        raise _stopped(ValueError(f"the function failed on {failed} of the rows' own completions; see above"))


def _config(function: str, deadline: float, workers: int | None, memory_mb: int) -> RewardConfig:
    try:
        return RewardConfig(function=function, deadline_s=deadline, workers=workers, memory_mb=memory_mb)
    except ValidationError as error:
        first = error.errors()[0]
        raise _stopped(ValueError(f"{first['loc'][0]}: {first['msg']}")) from error


def _stopped(error: ValueError) -> typer.Exit:
    typer.echo(f"rankone: {error}", err=True)
    return typer.Exit(2)


async def _grade(source: Path | None, config: RewardConfig) -> Summary:
    pool = open_pool(config)
    try:
        with _opened(source) as stream, _progress(stream) as (advance, complain):
            summary = await grade_stream(stream, pool, sys.stdout.write, complain, advance)
            sys.stdout.flush()
            return summary
    finally:
        await pool.close()


def _complain(message: str) -> None:
    typer.echo(message, err=True)


@contextlib.contextmanager
def _opened(source: Path | None) -> Generator[BinaryIO]:
    if source is None:
        yield sys.stdin.buffer
        return
    if not source.is_file():
        raise ValueError(f"{source} is not a file")
    with open_file(source) as stream:
        yield stream


@contextlib.contextmanager
def _progress(stream: BinaryIO) -> Generator[tuple[Callable[[int], object], Callable[[str], object]]]:
    """Yield functions to call with a count of lines that are done, and with a message.

    They draw a bar on stderr, if that is a terminal and the output does not go to the same one: how far a file is read,
    or how many lines of a pipe.
    """
    console = Console(stderr=True)
    if not console.is_terminal or sys.stdout.isatty():
        yield lambda count: None, _complain
        return
    size, started, lines = _size(stream), time.monotonic(), 0
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("graded 0", total=size)

        def advance(count: int) -> None:
            nonlocal lines
            lines += count
            read = os.lseek(stream.fileno(), 0, os.SEEK_CUR) if size else lines
            speed = lines / (time.monotonic() - started)
            progress.update(task, completed=read, description=f"graded {lines:,} ({speed:,.0f}/s)")

        def complain(message: str) -> None:
            progress.console.print(message, markup=False, highlight=False, soft_wrap=True)

        yield advance, complain


def _size(stream: BinaryIO) -> int | None:
    """Return the bytes in a file; None for a pipe."""
    status = os.fstat(stream.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _rows(data: Path, limit: int) -> tuple[list[Problem], list[Row]]:
    """Return the problems of a file's first lines, and those of them that come with a completion."""
    problems, rows = list[Problem](), list[Row]()
    with open_file(data) as lines:
        filled = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
        for number, line in islice(filled, limit):
            try:
                fields = parse_row(line)
                problems.append(read_problem(fields, str(fields.get("id", number))))
            except ValueError as error:
                raise ValueError(f"{data}, line {number}: {error}") from error
            if isinstance(fields.get("completion"), str):
                rows.append(Row(fields, problems[-1], fields["completion"]))
    return problems, rows


async def _try(config: RewardConfig, problems: list[Problem], rows: list[Row]) -> tuple[str, int]:
    """Return the report, and on how many of the rows' own completions the function crashed or hung."""
    pool = open_pool(config)
    try:
        report = await preflight(pool, problems)
        graded = await pool.grade_timed([r.problem for r in rows], [[r.completion] for r in rows])
    finally:
        await pool.close()
    lines = [report]
    for row, ((reward, seconds),) in zip(rows, graded, strict=True):
        shown = "".join(letter if letter.isprintable() else " " for letter in row.completion[-60:])
        lines.append(
            f"{row.problem.id[:20]:<20} {reward.value:>8.3g}  {reward.outcome:<12} {seconds:.3f} s  ...{shown}"
        )
    if config.is_default and (unread := check_answers(problems)):
        lines.append(
            f"{len(unread)} reference answers cannot be parsed: " + "; ".join(f"{i}: {r}" for i, r in unread[:5])
        )
    failed = sum(reward.outcome in (Outcome.CRASHED, Outcome.TIMEOUT) for ((reward, _),) in graded)
    return "\n".join(lines), failed
