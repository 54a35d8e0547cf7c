"""Ctrl-C and SIGTERM end a run in order, and the process in any case: a call into Ray may hang for minutes.

Signals are heard in a thread of their own, because Python's handlers run in the main thread, which may be in that call.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

UNWIND_S = 30.0
"""How long a run may take to close what it opened."""
KILL_S, EXIT_S = 5.0, 20.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)
STATUS = 130
"""The exit status of what was interrupted, as shells have it."""


class _Listener:
    """Hears of signals, cancels the task, and ends the process if that takes too long."""

    def __init__(self) -> None:
        self._heard = 0
        self._lock = threading.Lock()
        self._task: tuple[asyncio.AbstractEventLoop, asyncio.Task[object]] | None = None
        self._timer: threading.Timer | None = None

    def name_task(self, task: asyncio.Task[object]) -> None:
        """From now on it is this one that a signal cancels, as a signal does that was heard before."""
        with self._lock:
            self._task = (task.get_loop(), task)
            if self._heard:
                task.cancel()

    def hear(self, signals: socket.socket) -> None:
        """Listen until the other end is closed."""
        with signals:
            while numbers := signals.recv(64):
                for number in numbers:
                    if number in SIGNALS:
                        self._end()

    def close(self) -> None:
        """Stop the clock: the task has ended in order."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()

    def _end(self) -> None:
        with self._lock:
            self._heard += 1
            if self._heard > 1:
                end_now("again")
            self._timer = threading.Timer(UNWIND_S, end_now, [f"and it did not end within {UNWIND_S:g} s"])
            self._timer.daemon = True
            self._timer.start()
            if self._task is not None:
                loop, task = self._task
                with contextlib.suppress(RuntimeError):  # it has just ended
                    loop.call_soon_threadsafe(task.cancel)


_listener: _Listener | None = None


@contextmanager
def ended_by_signals() -> Generator[None]:
    """Inside the block, a signal cancels the task that `cancel_on_signals` named, and a second one ends the process.

    So does the first one, `UNWIND_S` later. In another thread than the main one, nothing of this is done.
    """
    global _listener
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    handlers = [signal.getsignal(number) for number in SIGNALS]
    before, listener = _listener, _Listener()
    _listener = listener
    threading.Thread(target=listener.hear, args=[theirs], daemon=True).start()
    _take_signals()
    wakeup = signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in zip(SIGNALS, handlers, strict=True):
            signal.signal(number, handler)
        listener.close()
        ours.close()
        _listener = before


def cancel_on_signals() -> None:
    """Let signals cancel the current task, so that every block that opened something closes it.

    To be called again after Ray has started, which puts a handler of SIGTERM in place that aborts.
    """
    task = asyncio.current_task()
    assert task is not None
    if _listener is not None:
        _take_signals()
        _listener.name_task(task)


def end_now(why: str) -> None:
    """End the process, and a Ray cluster of its own, whatever hangs."""
    print(f"rankone: ended ({why}); what was written down is whole: go on with --resume", file=sys.stderr, flush=True)
    killing = threading.Thread(target=_kill_own_cluster, daemon=True)
    killing.start()
    killing.join(KILL_S)
    os._exit(STATUS)


def exit_soon() -> None:
    """Give an interrupted process `EXIT_S` to end by itself, in which it calls what libraries asked for."""
    timer = threading.Timer(EXIT_S, os._exit, [STATUS])
    timer.daemon = True
    timer.start()


async def in_daemon(function: Callable[[], object]) -> None:
    """Call it in a thread that nobody waits for when this is cancelled, nor when the process ends.

    The thread stays until the loop is closed: what a thread of Linux started dies with it, a Ray cluster for one.
    """
    loop, done = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

    def tell(error: BaseException | None) -> None:
        if not done.done():
            done.set_result(None) if error is None else done.set_exception(error)

    def work() -> None:
        error = None
        try:
            function()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, error)
        while not loop.is_closed():
            time.sleep(1)

    threading.Thread(target=work, daemon=True).start()
    await done


def _kill_own_cluster() -> None:
    if "ray" in sys.modules:  # importing it takes a second, and most commands never do
        from rl.cluster.connect import kill_own_cluster

        with contextlib.suppress(Exception):
            kill_own_cluster()


def _take_signals() -> None:
    """Python must have a handler for a signal to be heard of; it has nothing to do."""
    for number in SIGNALS:
        signal.signal(number, lambda number, frame: None)
