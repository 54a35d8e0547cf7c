"""Requests for samples on their way to the engines: users take turns, and some requests share a call."""

import asyncio
import secrets
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from lora.types import Adapter
from rollout.config import SamplingConfig
from rollout.types import Completion, Engine, PromptLogprobs, PromptQuery


@dataclass(frozen=True, slots=True)
class Sampled:
    """The outcome of a request for samples."""

    completions: list[Completion]
    prompt: PromptLogprobs | None


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for samples of one prompt, and for what is asked of the prompt itself."""

    prompt: Sequence[int]
    adapter: Adapter
    sampling: SamplingConfig
    seed: int | None = None
    """None if any will do."""
    top_logprobs: int = 0
    query: PromptQuery | None = None
    writes: bool = True
    """False where the prompt alone is asked about: completions are empty then, and the prompt may fill the context."""

    def may_share(self, ask: "Ask") -> bool:
        """Return True if one call can serve both, and nobody could tell.

        How many rows an engine multiplies at once is seen in the last bit, so that a request with a seed, which
        somebody may repeat, has a call of its own.
        """
        return (
            self.seed is None
            and ask.seed is None
            and self.adapter.name == ask.adapter.name
            and self.sampling == ask.sampling
            and self.top_logprobs == ask.top_logprobs
            and self.writes == ask.writes
            and len(self.prompt) == len(ask.prompt)
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    ask: Ask
    answer: "asyncio.Future[Sampled]"


class Draws:
    """The requests that wait for an engine, and the calls that are with one."""

    def __init__(self, engine: Engine, *, calls: int, most_shared: int = 0) -> None:
        """`calls` calls are with the engine at a time; requests that may share one have up to `most_shared` samples
        together. An engine that puts calls together by itself needs no sharing."""
        self._engine = engine
        self._free = calls
        self._most_shared = most_shared
        self._waiting: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        """By user, in the order of their turns."""
        self._door = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def draw(self, user: str, ask: Ask) -> Sampled:
        """Return what was asked for. Users whose requests wait take turns.

        Raises:
            ValueError: the engine does not serve such a request.
            EngineDied: the engine ended, and no other is there.
        """
        waiting = _Waiting(ask, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(user, deque()).append(waiting)
        self._hand_out()
        return await waiting.answer

    def _hand_out(self) -> None:
        """Begin the calls that there is room for."""
        while self._free and (batch := self._next()):
            self._free -= 1
            task = asyncio.get_running_loop().create_task(self._serve(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            watch_cancellations(batch, task)

    def _next(self) -> list[_Waiting]:
        """Take the requests of the next call from those that wait: the one whose turn it is, and who shares it."""
        while self._waiting:
            user, queue = self._waiting.popitem(last=False)
            first = queue.popleft()
            if queue:
                self._waiting[user] = queue  # behind the others
            if not first.answer.done():  # its client has not gone away
                return [first, *self._sharers(first.ask)]
        return []

    def _sharers(self, first: Ask) -> list[_Waiting]:
        room = self._most_shared // first.sampling.group_size - 1
        if room < 1 or first.seed is not None:
            return []
        sharers: list[_Waiting] = []
        for user, queue in list(self._waiting.items()):
            others = deque[_Waiting]()
            for waiting in queue:
                fits = len(sharers) < room and not waiting.answer.done() and first.may_share(waiting.ask)
                (sharers if fits else others).append(waiting)
            self._waiting[user] = others
            if not others:
                del self._waiting[user]
        return sharers

    async def _serve(self, batch: Sequence[_Waiting]) -> None:
        try:
            async with self._door:
                # It takes milliseconds to hand a call to an engine: the event loop has its turn between two, or
                # thousands of them would keep heartbeats waiting.
                await asyncio.sleep(0)
            await self._answer(batch)
        except Exception as error:
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
        finally:
            for waiting in batch:
                waiting.answer.cancel()  # which those that are answered do not heed
            self._free += 1
            self._hand_out()

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        try:
            answers = await self._sampled([each.ask for each in batch])
        except ValueError:
            if len(batch) == 1:
                raise
            for waiting in batch:  # what is wrong with one of them is nothing to the others
                await self._serve_alone(waiting)
            return
        for waiting, sampled in zip(batch, answers, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(sampled)

    async def _serve_alone(self, waiting: _Waiting) -> None:
        try:
            await self._answer([waiting])
        except ValueError as error:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)

    async def _sampled(self, asks: Sequence[Ask]) -> list[Sampled]:
        queries = [(ask.prompt, ask.query) for ask in asks if ask.query is not None]
        if not queries:
            return [Sampled(completions, None) for completions in await self._written(asks)]
        scored = self._engine.score_prompts(
            [prompt for prompt, _ in queries], asks[0].adapter, [query for _, query in queries]
        )
        groups, scores = await asyncio.gather(self._written(asks), scored)
        answers = iter(scores)
        return [
            Sampled(group, None if ask.query is None else next(answers))
            for ask, group in zip(asks, groups, strict=True)
        ]

    async def _written(self, asks: Sequence[Ask]) -> list[list[Completion]]:
        first = asks[0]
        if not first.writes:
            nothing = Completion((), (), "", "length", first.adapter.version)
            return [[nothing] * first.sampling.group_size for _ in asks]
        return await self._engine.sample(
            [ask.prompt for ask in asks], first.adapter, first.sampling,
            seeds=[secrets.randbits(63) if ask.seed is None else ask.seed for ask in asks],
            top_logprobs=first.top_logprobs,
        )  # fmt: skip


def watch_cancellations(batch: Sequence[_Waiting], task: "asyncio.Task[None]") -> None:
    """End a call once nobody waits for it any more."""

    def on_done(_: object) -> None:
        if all(waiting.answer.cancelled() for waiting in batch):
            task.cancel()

    for waiting in batch:
        waiting.answer.add_done_callback(on_done)
