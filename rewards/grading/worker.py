"""A grading process: reads chunks of work from a connection and answers each item as it is done.

It imports neither torch, ray nor vllm. It dies with its parent, ignores Ctrl-C (the parent decides), and keeps to its
memory cap. `worker_process` starts it.
"""

import contextlib
import ctypes
import faulthandler
import os
import pickle
import resource
import signal
import sys
import sysconfig
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from rewards.functions.call import score
from rewards.functions.scores import RewardFunctionError, Score, combine
from rewards.functions.term import Term
from rewards.types import Outcome, Problem, Reward

Serve = Callable[[Connection, Any], None]

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
MAX_STACK = 12
"""Calls shown of a process that hangs: the outermost, which are the user's."""
STACK_SIGNAL = signal.SIGUSR1
"""Asks a worker where it is."""


@dataclass(frozen=True, slots=True)
class Item:
    """One call's worth of work: a problem and the completions to grade together (one, unless a function takes
    groups).
    """

    problem: Problem
    texts: tuple[str, ...]
    finish_reasons: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Graded:
    """The rewards of an item, the seconds they took, and what went wrong: ``(kind, traceback)`` of the user's
    function.
    """

    rewards: tuple[Reward, ...]
    seconds: float
    failure: tuple[str, str] | None = None
    scores: tuple[tuple[Score, ...], ...] = ()
    """Each completion's scores by the worker's functions, where others are to be added before they are combined. None
    are there of an item that was lost."""


@dataclass(frozen=True, slots=True)
class Setup:
    """A worker's first message: the packed functions, and its memory cap."""

    packed: bytes
    memory_mb: int
    keeps_scores: bool = False
    """Others are to be added."""


def main(descriptor: int, parent: int, stack: int, serve: Serve | None = None) -> None:
    """Serve until the parent closes its end. ``stack`` is a file that gets the process's stack when it is asked for.

    ``serve`` answers what comes over the connection, by default items to grade; it also gets what was packed.
    """
    _die_with(parent)
    faulthandler.register(STACK_SIGNAL, file=stack, all_threads=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError, OSError):  # the parent has gone, perhaps in the middle of a message
        setup: Setup = connection.recv()
        try:
            unpacked: Any = pickle.loads(setup.packed)
            _warm(setup.packed)
            _cap_memory(setup.memory_mb)
        except BaseException:
            connection.send(traceback.format_exc())
            return
        connection.send(None)
        if serve is None:
            _serve(connection, unpacked, setup.keeps_scores)
        else:
            serve(connection, unpacked)


def own_stack(dumped: str, caller: str = "rewards/functions/call.py") -> str:
    """The lines of a dumped stack that are the user's: before those of its caller, and not Python's. None are left of
    a function that awaits something."""
    lines = [line for line in dumped.splitlines() if line.startswith("  File ")]
    ours = next((i for i, line in enumerate(lines) if caller in line), len(lines))
    return "\n".join([line for line in lines[:ours] if not _is_pythons(line)][-MAX_STACK:])


def _is_pythons(line: str) -> bool:
    library = sysconfig.get_paths()["stdlib"]
    return "<frozen " in line or (f'"{library}/' in line and "/site-packages/" not in line)


def _die_with(parent: int) -> None:
    """SIGKILL when the thread that started us ends; and if it has ended already, now.

    Programs that lose their parent become children of this process, so that they are found when it is killed.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != parent:
        os._exit(0)


def _warm(packed: bytes) -> None:
    """Load what the first proof needs, so that it does not count against a completion's deadline."""
    if b"math_answer" in packed:  # alone, or called by a function of the user's
        from rewards.mathematics.compare.equivalence import equivalent

        assert equivalent("x^2 - 1", "(x - 1)(x + 1)")


def _cap_memory(memory_mb: int) -> None:
    """Address space now in use, plus the cap for what grading may take on top."""
    in_use = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE") if _has_proc() else 0  # noqa: PTH123, SIM115
    limit = max(memory_mb * 2**20, in_use + 2**26)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _has_proc() -> bool:
    return os.path.exists("/proc/self/statm")  # noqa: PTH110


def _serve(connection: Connection, terms: Sequence[Term], keeps_scores: bool) -> None:
    while True:
        items: Sequence[Item] = connection.recv()
        for item in items:
            graded = grade_item(terms, item, keeps_scores)
            connection.send(graded)
            if any(r.outcome is Outcome.TIMEOUT for r in graded.rewards):
                return  # out of memory: what is left of this process is not worth keeping


def grade_item(terms: Sequence[Term], item: Item, keeps_scores: bool = False) -> Graded:
    """Never raises: what a function does wrong is an outcome."""
    started = time.perf_counter()
    failure, kept = None, ()
    try:
        scores = [score(term, item.problem, item.texts, item.finish_reasons) for term in terms]
        rewards = tuple(combine(terms, _column(scores, i)) for i in range(len(item.texts)))
        kept = tuple(tuple(_column(scores, i)) for i in range(len(item.texts))) if keeps_scores else ()
    except MemoryError:
        rewards = tuple(Reward(0.0, Outcome.TIMEOUT) for _ in item.texts)
    except RewardFunctionError as error:
        rewards = tuple(Reward(0.0, Outcome.CRASHED) for _ in item.texts)
        failure = (error.kind, str(error))
    return Graded(rewards, time.perf_counter() - started, failure, kept)


def _column(scores: Sequence[Sequence[Score]], at: int) -> list[Score]:
    return [row[at] for row in scores]
