"""A lane of the pool: it grades items one after the other, with as many worker processes as that takes.

A worker answers item by item, so when one item passes its deadline the worker is killed and replaced, and the work goes
on behind that item.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rewards.grading.messages import Graded, Item, Setup
from rewards.grading.stack import own_stack
from rewards.grading.worker_process import LAST_WORDS_S, WorkerProcess
from rewards.types import Outcome, Reward

MAX_START_ATTEMPTS = 3
"""A worker that dies this often in a row before it can grade will not do better the next time."""


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """``sources`` are where the functions are defined, for messages. Built-in ones are never to blame for a death."""

    setup: Setup
    deadline_s: float
    is_built_in: bool
    sources: tuple[str, ...]


class Lane:
    """Owns one worker process at a time. One thread grades; `stop` and `pid` are for any thread."""

    def __init__(self, settings: LaneSettings) -> None:
        self._settings = settings
        self._worker: WorkerProcess | None = None
        self._pending = 0
        """Items that the worker has and has not answered yet."""
        self._is_stopped = False

    @property
    def pid(self) -> int | None:
        """The worker process alive now."""
        worker = self._worker
        return None if worker is None else worker.pid

    def grade(self, items: Sequence[Item], report: Callable[[Graded], None]) -> list[Graded]:
        """Grade items in order; ``report`` is told of each. Raises RuntimeError when no worker lives until it can
        grade, ValueError when the reward function cannot be loaded."""
        graded: list[Graded] = []
        try:
            for at in range(len(items)):
                graded.append(self._grade_one(items, at))
                report(graded[-1])
        except BaseException:
            self.retire()  # it may still send answers that nobody waits for
            raise
        return graded

    def stop(self) -> None:
        """End the worker, from any thread; what is left to grade is lost as timed out."""
        self._is_stopped = True
        if (worker := self._worker) is not None:
            worker.stop()

    def retire(self, patience_s: float = 0.0) -> str:
        """End the worker and return how it ended; the next item starts another."""
        worker, self._worker, self._pending = self._worker, None, 0
        return worker.kill(patience_s) if worker is not None else "was not there"

    def _grade_one(self, items: Sequence[Item], at: int) -> Graded:
        """The rewards of ``items[at]``. Those behind it go to the worker together with it, which hides the trip."""
        was_killed = False
        while (worker := self._ready()) is not None:
            started = time.perf_counter()
            try:
                return self._next_graded(worker, items[at:])
            except TimeoutError:
                seconds = time.perf_counter() - started
                failure = None if self._settings.is_built_in else self._hung(worker)
                self.retire()
                return _lost(items[at], Outcome.TIMEOUT, seconds, failure)
            except (EOFError, OSError):
                how = self.retire(LAST_WORDS_S)
                # Somebody outside killed it, perhaps for want of memory: an item that it happens to twice is to blame.
                if was_killed or "SIGKILL" not in how:
                    return self._died(items[at], how)
                was_killed = True
        return _lost(items[at], Outcome.TIMEOUT)

    def _next_graded(self, worker: WorkerProcess, items: Sequence[Item]) -> Graded:
        if not self._pending:
            worker.submit(items)
            self._pending = len(items)
        graded = worker.next_graded(self._settings.deadline_s)
        self._pending -= 1
        if any(r.outcome is Outcome.TIMEOUT for r in graded.rewards):
            self.retire()  # it ran out of memory and has ended itself
        return graded

    def _ready(self) -> WorkerProcess | None:
        """A process that can grade; None when the lane was stopped. Raises RuntimeError and ValueError: see `grade`."""
        deaths = 0
        while not self._is_stopped:
            worker = self._worker = self._worker or WorkerProcess(self._settings.setup)
            if self._is_stopped:  # in the meantime, so `stop` may not have seen this one
                break
            try:
                worker.wait_ready()
            except (EOFError, OSError) as error:
                how = self.retire(0.0 if isinstance(error, TimeoutError) else LAST_WORDS_S)
                deaths += 1
                if deaths == MAX_START_ATTEMPTS and not self._is_stopped:
                    raise RuntimeError(f"a grading process {how} before it could grade") from error
            else:
                return worker
        self.retire()
        return None

    def _hung(self, worker: WorkerProcess) -> tuple[str, str]:
        """The kind of failure of a worker that passed its deadline, and where it was."""
        where = own_stack(worker.stack())
        message = f"took more than deadline_s = {self._settings.deadline_s} s, and was "
        message += f"at:\n{where}" if where else "waiting for something:\n  " + "\n  ".join(self._settings.sources)
        return f"time-out at {where.splitlines()[0].strip()}" if where else "time-out", message

    def _died(self, item: Item, how: str) -> Graded:
        """A lost item: the process was killed because it took too much memory, or the user's function ended it."""
        if self._settings.is_built_in or self._is_stopped or "SIGKILL" in how:
            return _lost(item, Outcome.TIMEOUT)
        return _lost(item, Outcome.CRASHED, failure=("process died", f"the grading process {how}"))


def _lost(item: Item, outcome: Outcome, seconds: float = 0.0, failure: tuple[str, str] | None = None) -> Graded:
    return Graded(tuple(Reward(0.0, outcome) for _ in item.texts), seconds, failure)
