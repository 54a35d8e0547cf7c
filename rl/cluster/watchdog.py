"""The end of a run whose cluster is gone: soon, and in words.

Ray itself waits a minute for a head that will not come back, a quarter of one for the raylet of its own node, and then
ends the process on the spot. Until then its calls hang, those that would clean up among them.
"""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

PROBE_INTERVAL_S = 1.0
"""Between two knocks."""
ANSWER_S = 5.0
"""How long an answer may take: it comes from the kernel, or over a network."""
GRACE_S = 6.0
"""How long a run may take to close what it can still close."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A process of the cluster that a run cannot do without."""

    name: str
    host: str
    port: int
    patience_s: float
    """How long it may not answer."""

    async def answers(self) -> bool:
        """Return True if something accepts connections there. Busy processes do; the kernel sees to that."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                _, writer = await asyncio.open_connection(self.host, self.port)
            writer.close()
            return True
        return False


_endings: list[threading.Timer] = []
"""Of processes that still have to leave a cluster which is gone."""


class ClusterLost(RuntimeError):
    """The Ray cluster that a run lived on is gone. What was written down is whole, so the run can be resumed."""

    def __init__(self, anchor: Endpoint) -> None:
        super().__init__(
            f"{anchor.name} at {anchor.host}:{anchor.port} is gone, and the run with it; what was written down is "
            "whole: go on with --resume where there is a cluster"
        )


@asynccontextmanager
async def cancel_when_gone(anchors: Sequence[Endpoint]) -> AsyncGenerator[None]:
    """Cancel the block, which must run in the task that entered it, once one of these is gone.

    If it or leaving the cluster then hangs in a call of Ray's, the process is ended, with the same words; `call_off`
    says that neither did.

    Raises:
        ClusterLost: one was gone.
    """
    task = asyncio.current_task()
    assert task is not None
    lost: list[ClusterLost] = []

    async def watch(anchor: Endpoint) -> None:
        silent_s = 0.0
        while silent_s < anchor.patience_s:
            await asyncio.sleep(PROBE_INTERVAL_S)
            silent_s = 0.0 if await anchor.answers() else silent_s + PROBE_INTERVAL_S
        lost.append(ClusterLost(anchor))
        ending = threading.Timer(GRACE_S, _end, lost)
        ending.daemon = True
        ending.start()
        _endings.append(ending)
        task.cancel()

    watching = [asyncio.ensure_future(watch(anchor)) for anchor in anchors]
    try:
        yield
    except asyncio.CancelledError:
        if not lost:
            raise
        task.uncancel()
        raise lost[0] from None
    finally:
        for watcher in watching:
            watcher.cancel()


def call_off() -> None:
    """Let this process live on: it has left the cluster that is gone, and may be somebody's notebook, or a server."""
    while _endings:
        _endings.pop().cancel()


def _end(lost: ClusterLost) -> None:
    print(f"rankone: {lost}", file=sys.stderr, flush=True)
    os._exit(1)
