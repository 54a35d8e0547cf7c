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
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from rewards.functions.call import score
from rewards.functions.scores import RewardFunctionError, Score, combine
from rewards.functions.term import Term
from rewards.grading.messages import Graded, Item, Setup
from rewards.grading.stack import STACK_SIGNAL
from rewards.types import Outcome, Reward

Serve = Callable[[Connection, Any], None]

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


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
