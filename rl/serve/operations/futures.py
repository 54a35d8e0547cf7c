"""Answers that are worked on, by the id with which their clients ask for them, as often as they like."""

import asyncio
import itertools
import logging
import secrets
import time
from collections import Counter, defaultdict, deque
from collections.abc import Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from rl.serve.errors import Rejected, ServerFault, explain
from rl.types import LearnerDied
from rollout.types import EngineDied

log = logging.getLogger(__name__)

JSON, PROTOBUF = "application/json", "application/x-protobuf"
HOUR_S = 3600.0
OVERHEAD = 2048
"""Bytes of memory that a result takes beside its payload."""
Category = Literal["user", "server", "unknown"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A result as it goes over the wire."""

    payload: bytes
    content_type: str = JSON


@dataclass(frozen=True, slots=True)
class Failure:
    """A refusal or a loss, with whose fault it is."""

    error: str
    category: Category


@dataclass(slots=True)
class _Future:
    id: str
    owner: str
    task: "asyncio.Task[Answer | Failure]"
    request_bytes: int
    stoppable: bool
    finished: float = 0.0
    size: int = 0


@dataclass(slots=True)
class Pending:
    """One user's requests that wait or are worked on."""

    requests: int = 0
    bytes: int = 0


class Futures:
    """Work under way and its results. A result stays for `keep_s` seconds after the work, or while there is room."""

    def __init__(self, *, keep_s: float = HOUR_S, keep_bytes: int = 2**30) -> None:
        self._keep_s = keep_s
        self._keep_bytes = keep_bytes
        self._kept_bytes: Counter[str] = Counter()
        """By user."""
        self._boot = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self._futures: dict[str, _Future] = {}
        self._by_key: dict[Hashable, str] = {}
        self._keys: dict[str, Hashable] = {}
        self._pending: defaultdict[str, Pending] = defaultdict(Pending)
        self._done: defaultdict[str, deque[_Future]] = defaultdict(deque)
        """Each user's futures whose results are kept, the first to be done first."""

    def __len__(self) -> int:
        return sum(pending.requests for pending in self._pending.values())

    def pending(self, owner: str) -> Pending:
        """Return what of a user waits or is worked on."""
        return self._pending[owner]

    def known(self, key: Hashable) -> str | None:
        """Return the id of the work that was begun under this key, if there is some: a request that was sent again."""
        return self._by_key.get(key)

    def begin(
        self, owner: str, work: Coroutine[Any, Any, Answer], key: Hashable = None, *, request_bytes: int = 0,
        stoppable: bool = False,
    ) -> str:  # fmt: skip
        """Start the work, and return the id of its result. Its client may stop only work that leaves nothing behind."""
        request_id = f"{self._boot}-{next(self._numbers)}"
        task = asyncio.get_running_loop().create_task(_outcome(work))
        future = self._futures[request_id] = _Future(request_id, owner, task, request_bytes, stoppable)
        self._count(future, 1)
        task.add_done_callback(lambda _: self._finish(future))
        if key is not None:
            self._by_key[key], self._keys[request_id] = request_id, key
        return request_id

    async def wait(self, owner: str, request_id: str, seconds: float) -> Answer | Failure | None:
        """Return the outcome, or None if it takes longer than `seconds`.

        Work of an earlier start of the server, and work that is nobody's or somebody else's, has failed.
        """
        future = self._futures.get(request_id)
        if future is None or future.owner != owner:
            return self._missing(request_id)
        done, _ = await asyncio.wait([future.task], timeout=seconds)
        if future.task.cancelled():  # before it began
            return Failure("the request was cancelled", "user")
        return future.task.result() if done else None

    def cancel(self, owner: str, request_id: str) -> None:
        """Stop work that its client no longer waits for, if that can be done halfway."""
        future = self._futures.get(request_id)
        if future is not None and future.owner == owner and future.stoppable:
            future.task.cancel()

    async def close(self) -> None:
        """Stop all work."""
        tasks = [future.task for future in self._futures.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _missing(self, request_id: str) -> Failure:
        if request_id.startswith(f"{self._boot}-"):
            return Failure(
                f"there is no request {request_id}, or its result was let go an hour after it was done", "user"
            )
        return Failure(
            "the server was started anew since this request was sent, and what it had not saved is gone: create the "
            "training client again from your last checkpoint",
            "server",
        )

    def _count(self, future: _Future, sign: int) -> None:
        pending = self._pending[future.owner]
        pending.requests += sign
        pending.bytes += sign * future.request_bytes

    def _finish(self, future: _Future) -> None:
        self._count(future, -1)
        future.finished = time.monotonic()
        if not future.task.cancelled() and isinstance(outcome := future.task.result(), Answer):
            future.size = len(outcome.payload)
        future.size += OVERHEAD
        self._kept_bytes[future.owner] += future.size
        self._done[future.owner].append(future)
        self._let_go()

    def _let_go(self) -> None:
        """Forget what was done long ago, and if results are too large together, the oldest of who has the most."""
        limit = time.monotonic() - self._keep_s
        for user, done in list(self._done.items()):
            while done and done[0].finished <= limit:
                self._forget(user)
        while self._kept_bytes.total() > self._keep_bytes:
            self._forget(max(self._kept_bytes, key=lambda user: self._kept_bytes[user]))

    def _forget(self, user: str) -> None:
        """Forget a user's oldest result."""
        future = self._done[user].popleft()
        self._kept_bytes[user] -= future.size
        del self._futures[future.id]
        if (key := self._keys.pop(future.id, None)) is not None:
            del self._by_key[key]


async def _outcome(work: Coroutine[Any, Any, Answer]) -> Answer | Failure:
    try:
        return await work
    except ValidationError as error:
        return Failure(explain(error), "user")
    except (ValueError, Rejected) as error:
        return Failure(str(error), "user")
    except (LearnerDied, EngineDied, ServerFault) as error:
        return Failure(str(error), "server")
    except asyncio.CancelledError:
        return Failure("the request was cancelled", "user")
    except Exception as error:
        log.exception("a request failed")
        return Failure(f"the server failed: {type(error).__name__}: {error}", "server")
