"""Grading in processes that can be killed: the only kind of time-out that always works.

Each of a few threads owns one worker process (`rewards.worker`) and feeds it chunks. A worker answers item by item, so
when one item passes its deadline the worker is killed and replaced, and the chunk goes on behind that item.
"""

import asyncio
import contextlib
import logging
import os
import pickle
import queue
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from rewards.config import RewardConfig
from rewards.scores import RewardFunctionError
from rewards.term import load_terms, pack, with_source
from rewards.types import Outcome, Problem, Reward
from rewards.worker import STACK_SIGNAL, Graded, Item, Setup, own_stack, receive, send

START_SECONDS = 120.0
"""A worker may take this long to import what its functions need."""
START_ATTEMPTS = 3
"""A worker that dies this often in a row before it can grade will not do better the next time."""
LAST_WORDS_SECONDS = 2.0
"""A worker whose socket has closed leaves its exit status within this time."""
WORKER_BYTES = 128 * 2**20
"""What a worker takes before it grades anything: Python, sympy, and its tables."""
MAX_CHUNK = 64
"""Items sent to a worker at once: enough to hide the trip, few enough to share out evenly."""

_log = logging.getLogger("rewards")
_BOOT = """
import importlib.util, sys
sys.path[:] = {path!r}
spec = importlib.util.spec_from_file_location("rewards", {init!r})  # whatever else on the path is called so
sys.modules["rewards"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["rewards"])
from rewards.worker import main
main({descriptor}, {parent}, {stack})
"""
_INIT = str(Path(__file__).with_name("__init__.py"))


class WorkerProcess:
    """One child process and the socket to it. Every method may be called from one thread at a time only."""

    def __init__(self, setup: Setup) -> None:
        ours, theirs = socket.socketpair()
        self._stack = tempfile.TemporaryFile()  # noqa: SIM115
        path = [p or os.getcwd() for p in sys.path]  # noqa: PTH109
        descriptors = theirs.fileno(), self._stack.fileno()
        boot = _BOOT.format(path=path, init=_INIT, descriptor=descriptors[0], parent=os.getpid(), stack=descriptors[1])
        self._socket = ours
        # Its own session: a Ctrl-C on the terminal reaches only the parent. What functions print goes to stderr.
        self._process = subprocess.Popen(
            [sys.executable, "-c", boot],
            stdin=subprocess.DEVNULL,
            stdout=2,
            pass_fds=descriptors,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        )
        theirs.close()
        self._setup: Setup | None = setup
        self._poll = select.poll()
        self._poll.register(ours, select.POLLIN | select.POLLHUP)

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> None:
        """Returns when the worker can grade. Raises ValueError with its traceback when it cannot load the functions."""
        if self._setup is None:
            return
        send(self._socket, self._setup)
        problem = self._receive(START_SECONDS)
        if problem is not None:
            raise ValueError(f"a grading process could not load the reward function:\n{problem}")
        self._setup = None

    def submit(self, items: Sequence[Item]) -> None:
        send(self._socket, items)

    def next_graded(self, deadline_s: float) -> Graded:
        """The next item's rewards. Raises TimeoutError past the deadline, EOFError when the process died."""
        graded = self._receive(deadline_s)
        assert isinstance(graded, Graded)
        return graded

    def _receive(self, seconds: float) -> object:
        if not self._poll.poll(seconds * 1000):
            raise TimeoutError
        return receive(self._socket)

    def stack(self) -> str:
        """Where the process is now, the innermost call first. It answers even in the middle of a call into C."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(STACK_SIGNAL)
        for _ in range(int(LAST_WORDS_SECONDS / 0.02)):
            time.sleep(0.02)
            self._stack.seek(0)
            if (written := self._stack.read().decode(errors="replace")).count("\n") > 1:
                return written
        return ""

    def stop(self) -> None:
        """Ends the process, from any thread; whoever waits for it sees that it died."""
        self._process.kill()

    def kill(self, patience_s: float = 0.0) -> str:
        """Ends the process and says what had become of it. One that is ending by itself gets ``patience_s`` to do so:
        its socket closes before its exit status is there."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)
        ended = self._process.poll()
        self._process.kill()
        self._process.wait()
        self._socket.close()
        self._stack.close()
        if ended is None:
            return "was killed"
        return f"died of {signal.Signals(-ended).name}" if ended < 0 else f"exited with status {ended}"


@dataclass(slots=True)
class Chunk:
    """Items for one worker, and the promise of their rewards."""

    items: Sequence[Item]
    logs: bool = True
    """Whether a failure is logged; whoever shows failures himself wants them once."""
    promise: "Future[list[Graded]]" = field(default_factory=lambda: Future[list[Graded]]())


class GraderPool:
    """A `Grader` over worker processes. Safe to use from any event loop and any thread.

    ``packed`` carries functions that were loaded elsewhere (`pack(load_terms(config))`); without it they are loaded
    here. Raises ValueError of one line when a function cannot be loaded, or this machine cannot hold so many workers.
    """

    def __init__(self, config: RewardConfig, packed: bytes | None = None) -> None:
        self.config = config
        terms = load_terms(config) if packed is None else pickle.loads(packed)
        self._setup = Setup(pack(terms) if packed is None else packed, config.memory_mb)
        self._grouped = any(t.is_grouped for t in terms)
        self._built_in = all(t.is_built_in for t in terms)
        self.sources = [with_source(t) for t in terms]
        """Where each function is defined, for messages."""
        self._chunks: queue.SimpleQueue[Chunk | None] = queue.SimpleQueue()
        self._seen_failures: set[str] = set()
        self._last_failure = "none seen"
        self._closed = False
        self._workers: dict[int, WorkerProcess] = {}
        count = _count(config.workers)
        self._threads = [threading.Thread(target=self._serve, args=(i,), daemon=True) for i in range(count)]
        for thread in self._threads:
            thread.start()

    async def grade(
        self,
        problems: Sequence[Problem],
        texts_P_G: Sequence[Sequence[str]],
        finish_reasons_P_G: Sequence[Sequence[str]] | None = None,
    ) -> list[list[Reward]]:
        """Rewards in the shape of ``texts_P_G``. Raises `RewardFunctionError` when the user's function failed on more
        than
        ``config.max_failed_fraction`` of the completions, and ValueError when no worker can load it."""
        graded_P_G = await self.grade_timed(problems, texts_P_G, finish_reasons_P_G)
        rewards_P_G = [[reward for reward, _ in group] for group in graded_P_G]
        self._check_failures([r for group in rewards_P_G for r in group])
        return rewards_P_G

    async def grade_timed(
        self,
        problems: Sequence[Problem],
        texts_P_G: Sequence[Sequence[str]],
        finish_reasons_P_G: Sequence[Sequence[str]] | None = None,
    ) -> list[list[tuple[Reward, float]]]:
        """Like `grade`, with the seconds each took, and however many failed."""
        assert len(problems) == len(texts_P_G), "one group of completions a problem"
        reasons_P_G = finish_reasons_P_G or [None] * len(problems)
        groups = zip(problems, texts_P_G, reasons_P_G, strict=True)
        items = [i for problem, texts, reasons in groups for i in self.items(problem, texts, reasons)]
        graded = iter(await self.grade_items(items))
        rewards: list[list[tuple[Reward, float]]] = []
        for texts in texts_P_G:
            group: list[tuple[Reward, float]] = []
            while len(group) < len(texts):
                done = next(graded)
                group.extend((r, done.seconds / len(done.rewards)) for r in done.rewards)
            rewards.append(group)
        return rewards

    def items(self, problem: Problem, texts: Sequence[str], finish_reasons: Sequence[str] | None = None) -> list[Item]:
        """One group's work: an item a completion, or one for the group if a function takes groups."""
        reasons = tuple(finish_reasons or ["stop"] * len(texts))
        if self._grouped:
            return [Item(problem, tuple(texts), reasons)] if texts else []
        return [Item(problem, (text,), (reason,)) for text, reason in zip(texts, reasons, strict=True)]

    async def grade_items(self, items: Sequence[Item], *, logs: bool = True) -> list[Graded]:
        """The items' rewards, in order. Failures are logged, unless the caller shows them."""
        if self._closed:
            raise RuntimeError("the grader is closed")
        size = max(1, min(MAX_CHUNK, -(-len(items) // (4 * len(self._threads)))))
        chunks = [Chunk(items[i : i + size], logs) for i in range(0, len(items), size)]
        for chunk in chunks:
            self._chunks.put(chunk)
        done = await asyncio.gather(*[asyncio.wrap_future(c.promise) for c in chunks])
        return [g for chunk in done for g in chunk]

    async def close(self) -> None:
        """Ends the processes; grading under way ends as timed out."""
        self._closed = True
        for _ in self._threads:
            self._chunks.put(None)
        for worker in list(self._workers.values()):
            worker.stop()
        for thread in self._threads:
            await asyncio.to_thread(thread.join, 10.0)

    @property
    def pids(self) -> list[int]:
        """The worker processes alive now."""
        return [w.pid for w in list(self._workers.values())]

    # What runs in the threads

    def _serve(self, slot: int) -> None:
        while (chunk := self._chunks.get()) is not None:
            if not chunk.promise.set_running_or_notify_cancel():
                continue
            try:
                graded = self._grade_chunk(slot, chunk.items, chunk.logs)
            except BaseException as error:
                chunk.promise.set_exception(error)
            else:
                chunk.promise.set_result(graded)
        self._retire(slot)

    def _grade_chunk(self, slot: int, items: Sequence[Item], logs: bool) -> list[Graded]:
        """Every item's rewards, with as many workers as it takes."""
        graded: list[Graded] = []
        killed_at = -1
        while len(graded) < len(items):
            if self._closed:
                graded.append(_lost(items[len(graded)], Outcome.TIMEOUT))
                continue
            started = time.perf_counter()
            try:
                worker = self._ready(slot)
            except RuntimeError:
                if self._closed:
                    continue
                raise
            try:
                worker.submit(items[len(graded) :])
                while len(graded) < len(items):
                    started = time.perf_counter()
                    graded.append(worker.next_graded(self.config.deadline_s))
                    self._report(graded[-1], logs)
                    if any(r.outcome is Outcome.TIMEOUT for r in graded[-1].rewards):
                        self._retire(slot)  # it ran out of memory and has ended itself
                        break
            except TimeoutError:
                seconds = time.perf_counter() - started
                failure = None if self._built_in else self._hung(worker)
                self._retire(slot)
                graded.append(_lost(items[len(graded)], Outcome.TIMEOUT, seconds, failure))
                self._report(graded[-1], logs)
            except (EOFError, ConnectionError):
                how = self._retire(slot, LAST_WORDS_SECONDS)
                # Somebody outside killed it, perhaps for want of memory: an item that it happens to twice is to blame.
                if "SIGKILL" in how and killed_at != len(graded):
                    killed_at = len(graded)
                else:
                    graded.append(self._died(items[len(graded)], how))
                    self._report(graded[-1], logs)
        return graded

    def _hung(self, worker: WorkerProcess) -> tuple[str, str]:
        """What a worker that passed its deadline was doing: the kind of the failure, and where."""
        where = own_stack(worker.stack())
        said = f"took more than deadline_s = {self.config.deadline_s} s, and was "
        said += f"at:\n{where}" if where else "waiting for something:\n  " + "\n  ".join(self.sources)
        return f"time-out at {where.splitlines()[0].strip()}" if where else "time-out", said

    def _died(self, item: Item, how: str) -> Graded:
        """The item at which a worker's process ended: its memory ran out, or the user's function ended it."""
        if self._built_in or self._closed or "SIGKILL" in how:
            return _lost(item, Outcome.TIMEOUT)
        return _lost(item, Outcome.CRASHED, failure=("process died", f"the grading process {how}"))

    def _ready(self, slot: int) -> WorkerProcess:
        """A process that can grade. Raises RuntimeError when none will live until it can, ValueError when the reward
        function cannot be loaded."""
        for attempt in range(1, START_ATTEMPTS + 1):
            if slot not in self._workers:
                self._workers[slot] = WorkerProcess(self._setup)
            if self._closed:  # in the meantime, so `close` may not have seen this one
                self._retire(slot)
                raise RuntimeError("the grader is closed")
            try:
                self._workers[slot].wait_ready()
            except (TimeoutError, EOFError, ConnectionError) as error:
                how = self._retire(slot, 0.0 if isinstance(error, TimeoutError) else LAST_WORDS_SECONDS)
                if attempt == START_ATTEMPTS or self._closed:
                    raise RuntimeError(f"a grading process {how} before it could grade") from error
            except ValueError:
                self._retire(slot)
                raise
            else:
                break
        return self._workers[slot]

    def _retire(self, slot: int, patience_s: float = 0.0) -> str:
        worker = self._workers.pop(slot, None)
        return worker.kill(patience_s) if worker is not None else "was not there"

    def _report(self, graded: Graded, logs: bool) -> None:
        if logs and graded.failure is not None and graded.failure[0] not in self._seen_failures:
            self._seen_failures.add(graded.failure[0])
            self._last_failure = graded.failure[1]
            _log.warning(
                "reward function failed (%s); further failures of this kind are only counted\n%s", *graded.failure
            )

    def _check_failures(self, rewards: Sequence[Reward]) -> None:
        crashed = sum(r.outcome is Outcome.CRASHED for r in rewards)
        if crashed > self.config.max_failed_fraction * len(rewards):
            raise RewardFunctionError(
                f"the reward function failed on {crashed} of {len(rewards)} completions, more than "
                f"max_failed_fraction = {self.config.max_failed_fraction}; its last new failure:\n{self._last_failure}",
                "too many failures",
            )


def _lost(item: Item, outcome: Outcome, seconds: float = 0.0, failure: tuple[str, str] | None = None) -> Graded:
    return Graded(tuple(Reward(0.0, outcome) for _ in item.texts), seconds, failure)


def _count(wanted: int | None) -> int:
    if wanted is not None and wanted > (most := most_workers()):
        raise ValueError(
            f"reward.workers = {wanted} is more than this machine has use or memory for; set at most {most}"
        )
    return wanted or default_workers()


def most_workers() -> int:
    """As many as this machine holds: some may wait for a network, so more than cores, but each takes memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(max(64, 16 * len(os.sched_getaffinity(0))), memory // WORKER_BYTES))


def default_workers() -> int:
    """One for every two cores this process may use, at least one, at most eight."""
    return max(1, min(8, len(os.sched_getaffinity(0)) // 2))
