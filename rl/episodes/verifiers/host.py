"""Plays episodes of verifiers in processes of their own, and answers their requests for turns.

All of it lives in a thread with an event loop of its own, so that an environment is timed by what it does and not by
what the run's own loop is busy with. A turn is sampled in the loop that plays the episode.
"""

import asyncio
import contextlib
import itertools
import logging
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from rewards.grading.worker_count import default_workers
from rl.config import EpisodesConfig
from rl.data.verifiers import Origin
from rl.episodes.verifiers.openai_chat import BudgetError, UnplayableError, events, refusal
from rl.episodes.verifiers.process import ProcessDiedError, VerifiersProcess

EPISODES_PER_PROCESS = 8
"""Episodes that a process plays at once: most of the time each waits for a turn."""
BEGIN_S = 300.0
"""Seconds that an environment may take to its first request, if `episodes.step_timeout` is not more: until then it
starts its programs and the servers of its tools."""
GRACE_S = 5.0
"""Seconds in which a process ends an episode that it is asked to end; one that does not is killed."""
KEY_VARIABLE = "RANKONE_EPISODES_API_KEY"
"""Names the key to our address. verifiers keeps variables with API_KEY in their names from the programs it starts."""
MAX_START_ATTEMPTS = 3
LARGEST_REQUEST = 2**26

Table = dict[str, Any]
Respond = Callable[[Table], Awaitable[Table]]
"""Answers a request for a turn. Raises BudgetError or UnplayableError."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Played:
    """The end of an episode."""

    report: Table = field(default_factory=dict[str, Any])
    """The environment's own report (`rl.data.verifiers_worker.report_of`)."""
    failure: Literal["timeout", "crashed"] | None = None
    message: str = ""


@dataclass(slots=True, eq=False)
class _Session:
    """An episode's side of the requests: who answers them, and since when the environment has had the word."""

    name: str
    task: Table
    loop: asyncio.AbstractEventLoop
    begin: Callable[[], Respond]
    respond: Respond | None = None
    answering: set["Future[Table]"] = field(default_factory=set["Future[Table]"])
    since: float = 0.0
    begun: bool = False
    """True once a turn has been asked for."""

    def silent_for(self) -> float:
        """Return the seconds for which the environment has had the word; 0 while a turn is written."""
        return 0.0 if self.answering else time.monotonic() - self.since

    def restart(self) -> None:
        self.end()
        self.respond, self.since, self.begun = self.begin(), time.monotonic(), False

    def end(self) -> None:
        self.respond = None
        for answer in list(self.answering):
            answer.cancel()


class _Slot:
    """A place for a process, which is started when it is first needed, and again when it has died."""

    def __init__(self, start: Callable[[], Awaitable[VerifiersProcess]], most: int) -> None:
        self._start = start
        self._starting = asyncio.Lock()
        self.free = most
        self.process: VerifiersProcess | None = None

    async def ready(self) -> VerifiersProcess:
        """Return the process. Raises ValueError if it cannot load the environment, RuntimeError if it does not live."""
        async with self._starting:
            for _ in range(MAX_START_ATTEMPTS):
                if self.process is not None and self.process.alive:
                    return self.process
                try:
                    self.process = await self._start()
                except ProcessDiedError as error:
                    log.warning("a process of verifiers %s", error)
            raise RuntimeError("no process of verifiers lives until it can play an episode")


class VerifiersHost:
    """Plays episodes. Safe to use from any event loop."""

    def __init__(self, origin: Origin, config: EpisodesConfig) -> None:
        """Start processes when they are first needed."""
        self._origin, self._config = origin, config
        self._key = secrets.token_urlsafe(32)
        self._sessions: dict[str, _Session] = {}
        self._names = map(str, itertools.count())
        self._kinds: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._opened: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self._slots: list[_Slot] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._closed = False

    async def play(self, task: Table, begin: Callable[[], Respond]) -> Played:
        """Return what an episode of a task came to.

        `begin` is called for each attempt and returns what answers its requests, in the caller's event loop. One whose
        process died, which another episode may be to blame for, is played once more, alone.

        Raises:
            ValueError: no process can load the environment.
            RuntimeError: none lives until it can play, or all were closed.
        """
        if self._closed:
            raise RuntimeError("the environments are closed")
        session = _Session(f"episode-{next(self._names)}", task, asyncio.get_running_loop(), begin)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._play(session), self._loop))

    def report(self, kind: str, message: str) -> None:
        """Log a failure if it is the first of its kind."""
        if kind not in self._kinds:
            self._kinds.add(kind)
            log.warning(
                "an episode of %s failed (%s); further failures of this kind are only counted\n%s",
                self._config.environment, kind, message,
            )  # fmt: skip

    async def close(self) -> None:
        """End the processes, and whatever they started."""
        if not self._closed:
            self._closed = True
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._close(), self._loop))
            self._loop.call_soon_threadsafe(self._loop.stop)
            await asyncio.to_thread(self._thread.join, 10.0)

    @property
    def pids(self) -> list[int]:
        """The processes alive now, without what they started."""
        return [slot.process.pid for slot in self._slots if slot.process is not None and slot.process.alive]

    async def _close(self) -> None:
        for session in list(self._sessions.values()):
            session.end()
        await asyncio.gather(*(slot.process.kill() for slot in self._slots if slot.process is not None))
        if self._runner is not None:
            await self._runner.cleanup()

    async def _open(self) -> None:
        app = web.Application(client_max_size=LARGEST_REQUEST)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._models)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        count = self._config.workers or default_workers()
        self._slots = [_Slot(self._start, EPISODES_PER_PROCESS) for _ in range(count)] + [_Slot(self._start, 1)]
        self._room = asyncio.Semaphore(count * EPISODES_PER_PROCESS)
        self._alone = asyncio.Semaphore(1)

    async def _start(self) -> VerifiersProcess:
        assert self._runner is not None
        return await VerifiersProcess.start(
            self._origin, {KEY_VARIABLE: self._key},
            base_url=f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1", key_variable=KEY_VARIABLE,
            max_turns=self._config.max_turns, memory_mb=self._config.memory_mb,
        )  # fmt: skip

    async def _play(self, session: _Session) -> Played:
        if self._opened is None:
            self._opened = asyncio.create_task(self._open())
        await asyncio.shield(self._opened)
        self._sessions[session.name] = session
        try:
            async with self._room:
                slot = max(self._slots[:-1], key=lambda each: each.free)
                with contextlib.suppress(ProcessDiedError):
                    return await self._attempt(slot, session)
            async with self._alone:
                try:
                    return await self._attempt(self._slots[-1], session)
                except ProcessDiedError as died:
                    killed = "SIGKILL" in str(died)
                    return Played(failure="timeout" if killed else "crashed", message=f"its process {died}, twice")
        finally:
            session.end()
            del self._sessions[session.name]

    async def _attempt(self, slot: _Slot, session: _Session) -> Played:
        slot.free -= 1
        try:
            process = await slot.ready()
            session.restart()
            playing = asyncio.create_task(process.play(session.name, session.task))
            try:
                return await self._watched(playing, process, session, is_alone=slot is self._slots[-1])
            finally:
                if not playing.done():
                    await process.cancel(session.name)
                    playing.cancel()
                await asyncio.gather(playing, return_exceptions=True)
        finally:
            slot.free += 1

    async def _watched(
        self, playing: "asyncio.Task[Table]", process: VerifiersProcess, session: _Session, *, is_alone: bool
    ) -> Played:
        """Return the end of an episode, which comes before the environment has been silent for too long or is made to.

        Raises:
            ProcessDiedError: the process died, or was killed because it did not listen.
        """
        while not playing.done() and (left := self._patience_s(session) - session.silent_for()) > 0:
            await asyncio.wait({playing}, timeout=min(left, 1.0))
        if playing.done():
            return Played(playing.result())
        since = "episodes.step_timeout" if session.begun else "an environment may take to its first request"
        message = f"said nothing for {self._patience_s(session):g} s, more than {since}"
        await process.cancel(session.name)
        await asyncio.wait({playing}, timeout=GRACE_S)
        if not playing.done():
            await process.kill()
        if is_alone or (playing.done() and playing.exception() is None):
            return Played(failure="timeout", message=message)
        raise ProcessDiedError("did not listen, and was killed")

    def _patience_s(self, session: _Session) -> float:
        limit = self._config.step_timeout
        return limit if session.begun else max(limit, BEGIN_S)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        """Answer a request for a turn. The model's name is the episode's."""
        if not secrets.compare_digest(request.headers.get("Authorization", ""), f"Bearer {self._key}"):
            return web.json_response(refusal(UnplayableError("unauthorized")), status=401)
        body: Table = await request.json()
        session = self._sessions.get(str(body.get("model")))
        if session is None or session.respond is None:
            return web.json_response(refusal(UnplayableError("the episode is over")), status=409)
        session.begun = True
        answer = asyncio.run_coroutine_threadsafe(_answered(session.respond, body), session.loop)
        session.answering.add(answer)
        try:
            content = await asyncio.wrap_future(answer)
        except (BudgetError, UnplayableError) as error:
            return web.json_response(refusal(error), status=400)
        finally:
            session.answering.discard(answer)
            session.since = time.monotonic()
        if not body.get("stream"):
            return web.json_response(content)
        return web.Response(body=b"".join(events(content)), content_type="text/event-stream")

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": []})


async def _answered(respond: Respond, body: Table) -> Table:
    return await respond(body)
