"""Grades any number of JSON lines at constant memory: a few windows are in flight; output keeps the input's order."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from rewards.grading.pool import GraderPool
from rewards.json_row import parse_row
from rewards.types import Outcome, Problem, Reward

WINDOW = 256
"""Lines graded together."""
IN_FLIGHT = 4
MAX_LINE_BYTES = 16 * 2**20
_READ = 2**20


@dataclass(slots=True)
class Summary:
    """Counts of a stream's lines."""

    graded: int = 0
    malformed: int = 0
    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))


@dataclass(frozen=True, slots=True)
class Row:
    """One line: its own fields, and what is graded of them."""

    fields: dict[str, Any]
    problem: Problem
    completion: str
    finish_reason: str = "stop"


class MalformedLine(ValueError):
    """A line that cannot be graded."""


def read_row(line: bytes, number: int) -> Row:
    """A line with an ``answer`` and a ``completion``; its other fields are the problem's. Raises `MalformedLine`."""
    try:
        row = parse_row(line)
    except ValueError as error:
        raise MalformedLine(str(error)) from error
    completion = row.get("completion")
    if not isinstance(completion, str):
        raise MalformedLine("'completion' is missing or not a string")
    reason = "length" if row.get("finish_reason") == "length" else "stop"
    return Row(row, read_problem(row, str(row.get("id", number))), completion, reason)


def read_problem(row: dict[str, Any], name: str) -> Problem:
    """The problem in a data set's row. Raises `MalformedLine` when it states no answer."""
    answer = next((row[k] for k in ("answer", "Answer", "solution") if k in row), None)
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise MalformedLine("'answer' is missing, or neither a string nor a number")
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    asked = [str(row[k]) for k in ("question", "problem", "prompt", "Body", "Question") if k in row]
    known = {"id", "question", "answer", "completion", "finish_reason"}
    return Problem(name, " ".join(asked[:2]), str(answer), {k: v for k, v in row.items() if k not in known})


async def grade_stream(
    source: BinaryIO,
    pool: GraderPool,
    write: Callable[[str], object],
    complain: Callable[[str], object],
    advance: Callable[[int], object] = lambda count: None,
) -> Summary:
    """Grade every line of ``source``.

    ``write`` gets each graded line with ``value``, ``outcome`` and ``seconds`` added, in order; ``complain`` one
    message a malformed line, with its number; ``advance`` how many lines are done since it was last called.
    """
    summary = Summary()
    waiting: deque[asyncio.Task[list[tuple[Row, Reward, float]]]] = deque()
    try:
        async for window, malformed in _windows(source):
            for message in malformed:
                complain(message)
            summary.malformed += len(malformed)
            advance(len(malformed))
            waiting.append(asyncio.create_task(_grade(pool, window)))
            if len(waiting) >= IN_FLIGHT:
                _emit(await waiting.popleft(), summary, write, advance)
        while waiting:
            _emit(await waiting.popleft(), summary, write, advance)
    finally:
        for task in waiting:  # the reader of the output may have gone
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return summary


async def _grade(pool: GraderPool, window: list[Row]) -> list[tuple[Row, Reward, float]]:
    reasons = [[r.finish_reason] for r in window]
    graded = await pool.grade_timed([r.problem for r in window], [[r.completion] for r in window], reasons)
    return [(row, *group[0]) for row, group in zip(window, graded, strict=True)]


def _emit(
    graded: list[tuple[Row, Reward, float]],
    summary: Summary,
    write: Callable[[str], object],
    advance: Callable[[int], object],
) -> None:
    for row, reward, seconds in graded:
        added = {"value": reward.value, "outcome": reward.outcome.value, "seconds": round(seconds, 6)}
        write(json.dumps({**row.fields, **added}, ensure_ascii=False) + "\n")
        summary.graded += 1
        summary.outcomes[reward.outcome] += 1
    advance(len(graded))


async def _windows(source: BinaryIO) -> AsyncIterator[tuple[list[Row], list[str]]]:
    """Readable rows, and a message for each line that is not one. Reading waits in a thread: input may come slowly."""
    number = 0
    while True:
        lines = await asyncio.to_thread(_read_lines, source)
        if not lines:
            return
        rows, malformed = list[Row](), list[str]()
        for line in lines:
            number += 1
            try:
                if line is None:
                    raise MalformedLine(f"longer than {MAX_LINE_BYTES // 2**20} MiB")
                if line.strip():
                    rows.append(read_row(line, number))
            except MalformedLine as error:
                malformed.append(f"line {number}: {error}")
        yield rows, malformed


def _read_lines(source: BinaryIO) -> list[bytes | None]:
    """Up to a window of lines, or about 16 MiB of them; None for one that is too long."""
    lines: list[bytes | None] = []
    size = 0
    while len(lines) < WINDOW and size < MAX_LINE_BYTES:
        line = source.readline(MAX_LINE_BYTES)
        if not line:
            break
        size += len(line)
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            while (rest := source.readline(_READ)) and not rest.endswith(b"\n"):
                pass
            lines.append(None)
        else:
            lines.append(line)
    return lines
