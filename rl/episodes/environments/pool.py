"""The processes that environments live in, each of which can be killed: the only kind of time-out that always works."""

import asyncio
import logging
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from rewards.grading.messages import Setup
from rewards.grading.stack import own_stack
from rewards.grading.worker_count import default_workers
from rewards.grading.worker_process import LAST_WORDS_S, WorkerProcess
from rewards.types import Problem
from rl.config import EpisodesConfig
from rl.episodes.environments.factory import EnvironmentFactory
from rl.episodes.environments.worker import Answer, Call

MAX_START_ATTEMPTS = 3
"""A process that dies this often in a row before it can answer will not do better the next time."""

log = logging.getLogger(__name__)


class EnvironmentProcess(WorkerProcess):
    """A process that answers turns."""

    ENTRY = "rl.episodes.environments.worker"
    LOADS = "a process of environments could not load the environment"


@dataclass(slots=True)
class _Turn:
    """A call, and the promise of its answer."""

    call: Call
    promise: "Future[Answer]" = field(default_factory=lambda: Future[Answer]())


class EnvironmentPool:
    """Answers turns in processes, one at a time each. Safe to use from any event loop."""

    def __init__(self, factory: EnvironmentFactory, config: EpisodesConfig) -> None:
        """Start them when they are first needed. Raises ValueError if the environment cannot travel."""
        self._factory = factory
        self._config = config
        self._setup = Setup(factory.pack(), config.memory_mb)
        self._turns: queue.SimpleQueue[_Turn | None] = queue.SimpleQueue()
        self._processes: dict[int, EnvironmentProcess] = {}
        """The living ones by their thread's number."""
        self._kinds: set[str] = set()
        self._closed = False
        count = config.workers or default_workers()
        self._threads = [threading.Thread(target=self._serve, args=(i,), daemon=True) for i in range(count)]
        for thread in self._threads:
            thread.start()

    async def answer(self, call: Call, *, logs: bool = True) -> Answer:
        """Return the answer to a turn, or the failure that it ended with, the first of whose kind is logged.

        Raises:
            ValueError: no process can load the environment.
            RuntimeError: none lives until it can answer, or all were closed.
        """
        if self._closed:
            raise RuntimeError("the environments are closed")
        blind = call if self._factory.sees_answers else replace(call, problem=Problem("", "", ""))
        turn = _Turn(blind)
        self._turns.put(turn)
        answer = await asyncio.wrap_future(turn.promise)
        if logs:
            self.report(answer)
        return answer

    def report(self, answer: Answer) -> None:
        """Log a failure if it is the first of its kind."""
        if answer.failure is None or answer.kind in self._kinds:
            return
        self._kinds.add(answer.kind)
        log.warning(
            "%s failed (%s); further failures of this kind are only counted\n%s",
            self._factory.name, answer.kind, answer.message,
        )  # fmt: skip

    async def close(self) -> None:
        """End the processes; turns under way have no answer."""
        self._closed = True
        for _ in self._threads:
            self._turns.put(None)
        for process in list(self._processes.values()):
            process.stop()
        for thread in self._threads:
            await asyncio.to_thread(thread.join, 10.0)

    @property
    def pids(self) -> list[int]:
        """The processes alive now."""
        return [process.pid for process in list(self._processes.values())]

    def _serve(self, number: int) -> None:
        """Answer turns until None comes. Runs in a thread of its own."""
        while (turn := self._turns.get()) is not None:
            if not turn.promise.set_running_or_notify_cancel():
                continue
            try:
                answer = self._answer(number, turn.call)
            except BaseException as error:
                self._retire(number)
                turn.promise.set_exception(error)
            else:
                turn.promise.set_result(answer)
        self._retire(number)

    def _answer(self, number: int, call: Call) -> Answer:
        """Return the answer. Somebody outside may kill a process: a call that it happens to twice is to blame."""
        for attempt in range(2):
            process = self._ready(number)
            begin = time.perf_counter()
            try:
                answer: Answer = process.ask(call, self._config.step_timeout)
            except TimeoutError:
                return self._hung(number, process, time.perf_counter() - begin)
            except (EOFError, OSError):
                how = self._retire(number, LAST_WORDS_S)
                if self._closed or "SIGKILL" not in how:
                    return Answer(failure="crashed", kind="process died", message=f"its process {how}")
                if attempt:
                    return Answer(failure="timeout", kind="killed", message=f"its process {how} twice")
            else:
                if answer.failure == "timeout":
                    self._retire(number)  # it ran out of memory and has ended itself
                return answer
        raise AssertionError("unreachable")

    def _ready(self, number: int) -> EnvironmentProcess:
        """Return a process that can answer. Raises as `answer` does."""
        for _ in range(MAX_START_ATTEMPTS):
            if self._closed:
                break
            process = self._processes.get(number) or EnvironmentProcess(self._setup)
            self._processes[number] = process
            try:
                process.wait_ready()
            except (EOFError, OSError):
                how = self._retire(number, LAST_WORDS_S)
                log.warning("a process of environments %s before it could answer", how)
            else:
                return process
        raise RuntimeError("no process of environments lives until it can answer a turn")

    def _hung(self, number: int, process: EnvironmentProcess, seconds: float) -> Answer:
        where = own_stack(process.stack(), "rl/episodes/environments/worker.py")
        self._retire(number)
        message = f"took {seconds:.1f} s, more than episodes.step_timeout, and was "
        return Answer(failure="timeout", kind="time-out", message=message + (f"at:\n{where}" if where else "waiting"))

    def _retire(self, number: int, patience_s: float = 0.0) -> str:
        """End a thread's process and return how it ended; the next turn starts another."""
        process = self._processes.pop(number, None)
        return process.kill(patience_s) if process is not None else "was not there"
