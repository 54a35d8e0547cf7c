"""An event loop for a session: this thread's own, or where one is running already, as in a notebook, another's."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

from rl.cluster.interrupts import SIGNALS, ended_by_signals

T = TypeVar("T")


def run_to_end(main: Coroutine[Any, Any, T]) -> T:
    """Run it and return its result. In the main thread, Ctrl-C and SIGTERM cancel what `cancel_on_signals` named.

    Where this thread's loop is running, as in a notebook's cell, it has a thread of its own, and they cancel it, too.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with ended_by_signals():
            return asyncio.run(main)
    return _in_a_thread(main)


def _in_a_thread(main: Coroutine[Any, Any, T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = []

    async def named() -> T:
        task = asyncio.ensure_future(main)
        started.append((asyncio.get_running_loop(), task))
        return await task

    def work() -> None:
        try:
            results.append(asyncio.run(named()))
        except BaseException as error:  # it is raised in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=work, name="rankone-session")
    thread.start()
    _join(thread, started)
    if errors:
        raise errors[0]
    return results[0]


def _join(thread: threading.Thread, started: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]]) -> None:
    """Wait for the thread; an interruption cancels its task, which closes what it opened, and goes on upwards."""
    try:
        with _interrupts_raised():
            thread.join()
    except KeyboardInterrupt:
        for loop, task in started:
            with contextlib.suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise


@contextlib.contextmanager
def _interrupts_raised() -> Generator[None]:
    """Raise KeyboardInterrupt for a signal, which a loop's own handler would keep until its task goes on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(number, signal.default_int_handler) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)
