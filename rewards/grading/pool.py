"""Grading in processes that can be killed: the only kind of time-out that always works.

Each of a few threads has a `lane` that owns one worker process, and grades the chunks it takes from a queue.
Libraries' process pools give a deadline to a whole task, if any; this one has a deadline for every item of a chunk,
says at which line of the user's function the time was up, and replaces what dies.
"""

import asyncio
import functools
import pickle
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from rewards.config import RewardConfig, RewardTerm
from rewards.functions.scores import RewardFunctionError
from rewards.functions.term import load_terms, pack, with_source
from rewards.grading.failure_log import NONE_SEEN, FailureLog
from rewards.grading.lane import Lane, LaneSettings
from rewards.grading.merge import merge
from rewards.grading.messages import Graded, Item, Setup
from rewards.grading.panel import Panel, Scorer
from rewards.grading.worker_count import worker_count
from rewards.judge.judge import Judge
from rewards.types import Outcome, Problem, Reward

MAX_CHUNK = 64
"""Items sent to a worker at once: enough to hide the trip, few enough to share out evenly."""


@dataclass(slots=True)
class Chunk:
    """Items for one lane, and the promise of their rewards."""

    items: Sequence[Item]
    report: Callable[[Graded], None]
    promise: "Future[list[Graded]]" = field(default_factory=lambda: Future[list[Graded]]())


class GraderPool:
    """A `Grader` over worker processes. Safe to use from any event loop and any thread.

    ``packed`` carries functions that were loaded elsewhere (`pack(load_terms(config))`); without it they are loaded
    here. ``reward_model`` makes what scores for a term of that kind, which this package cannot.

    Raises ValueError of one line when a function cannot be loaded, or this machine cannot hold so many workers.
    """

    def __init__(
        self,
        config: RewardConfig,
        packed: bytes | None = None,
        *,
        reward_model: Callable[[RewardTerm], Scorer] | None = None,
    ) -> None:
        self.config = config
        workers = worker_count(config.workers)
        terms = load_terms(config) if packed is None else pickle.loads(packed)
        kinds = {t.kind for t in config.all_terms}
        self.takes_groups = any(t.is_grouped for t in terms) or "reward_model" in kinds
        self.sources = tuple(with_source(t) for t in terms)
        """The place where each function is defined, for messages."""
        self._chunks: queue.SimpleQueue[Chunk | None] = queue.SimpleQueue()
        self._failures = FailureLog()
        self._closed = False
        self._computes = bool(terms)
        self._panel = Panel(_makers(config.all_terms, reward_model))
        self.is_of_functions = kinds == {"function"}
        """True if completions that are made up for functions can try it."""
        setup = Setup(pack(terms) if packed is None else packed, config.memory_mb, self._panel.is_asked)
        settings = LaneSettings(setup, config.deadline_s, all(t.is_built_in for t in terms), self.sources)
        self._lanes = [Lane(settings) for _ in range(workers)]
        self._threads = [threading.Thread(target=self._serve, args=(lane,), daemon=True) for lane in self._lanes]
        for thread in self._threads:
            thread.start()

    async def grade(
        self,
        problems: Sequence[Problem],
        texts_P_G: Sequence[Sequence[str]],
        finish_reasons_P_G: Sequence[Sequence[str]] | None = None,
    ) -> list[list[Reward]]:
        """Rewards in the shape of ``texts_P_G``.

        Raises:
            RewardFunctionError: the user's function failed on more than ``config.max_failed_fraction`` of them.
            ValueError: no worker can load it.
        """
        graded_P_G = await self.grade_timed(problems, texts_P_G, finish_reasons_P_G)
        rewards_P_G = [[reward for reward, _ in group] for group in graded_P_G]
        self.check(rewards_P_G)
        return rewards_P_G

    async def grade_part(self, problem: Problem, texts: Sequence[str], finish_reasons: Sequence[str]) -> list[Reward]:
        """Rewards of some completions of a group, or of all of them; however many failed.

        Raises:
            ValueError: no worker can load the function.
        """
        (graded,) = await self.grade_timed([problem], [texts], [finish_reasons])
        return [reward for reward, _ in graded]

    def check(self, rewards_P_G: Sequence[Sequence[Reward]], problems: Sequence[Problem] = ()) -> None:
        """Raises RewardFunctionError if the user's function failed on more than ``config.max_failed_fraction``."""
        rewards = [reward for group in rewards_P_G for reward in group]
        crashed = sum(reward.outcome is Outcome.CRASHED for reward in rewards)
        if crashed > self.config.max_failed_fraction * len(rewards) and self._failures.last == NONE_SEEN:
            raise RewardFunctionError(
                f"the environment failed on {crashed} of {len(rewards)} episodes, more than reward.max_failed_fraction "
                f"= {self.config.max_failed_fraction}; the log has its traceback",
                "too many failures",
            )
        if crashed > self.config.max_failed_fraction * len(rewards):
            raise RewardFunctionError(
                f"the reward function failed on {crashed} of {len(rewards)} completions, more than "
                f"max_failed_fraction = {self.config.max_failed_fraction}; "
                f"its last new failure:\n{self._failures.last}",
                "too many failures",
            )

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
        if self.takes_groups:
            return [Item(problem, tuple(texts), reasons)] if texts else []
        return [Item(problem, (text,), (reason,)) for text, reason in zip(texts, reasons, strict=True)]

    async def grade_items(self, items: Sequence[Item], *, logs: bool = True) -> list[Graded]:
        """The items' rewards, in order. Failures are logged, unless the caller shows them."""
        if self._closed:
            raise RuntimeError("the grader is closed")
        report = self._failures.report if logs else _ignore
        if not self._panel.is_asked:
            return await self._compute(items, report)
        computed, asked = await asyncio.gather(self._compute(items, report), self._panel.score(items))
        merged = [merge(self.config.all_terms, *parts) for parts in zip(items, computed, asked, strict=True)]
        for graded in merged:
            report(graded)
        return merged

    async def _compute(self, items: Sequence[Item], report: Callable[[Graded], None]) -> list[Graded]:
        """Return what the functions make of the items, each of which is reported as it is done."""
        if not self._computes:
            return [Graded((), 0.0, scores=((),) * len(item.texts)) for item in items]
        size = max(1, min(MAX_CHUNK, -(-len(items) // (4 * len(self._lanes)))))
        chunks = [Chunk(items[i : i + size], report) for i in range(0, len(items), size)]
        for chunk in chunks:
            self._chunks.put(chunk)
        if len(chunks) == 1:  # such as a completion that is graded when it ends: there is nothing to gather
            return await asyncio.wrap_future(chunks[0].promise)
        done = await asyncio.gather(*[asyncio.wrap_future(c.promise) for c in chunks])
        return [g for chunk in done for g in chunk]

    async def close(self) -> None:
        """End the processes; grading under way ends as timed out."""
        self._closed = True
        for lane in self._lanes:
            self._chunks.put(None)
            lane.stop()
        await asyncio.to_thread(self._panel.close)
        for thread in self._threads:
            await asyncio.to_thread(thread.join, 10.0)

    @property
    def pids(self) -> list[int]:
        """The worker processes alive now."""
        return [pid for lane in self._lanes if (pid := lane.pid) is not None]

    def _serve(self, lane: Lane) -> None:
        """Grade chunks until None comes. Runs in a thread of its own."""
        while chunks := self._take():
            _grade(lane, chunks)
        lane.retire()

    def _take(self) -> list[Chunk]:
        """Wait for a chunk, and take with it a part of those that wait; return none at the end.

        Completions that are graded when they end come as chunks of one, whose time would else be that of the trip.
        """
        chunks: list[Chunk] = []
        chunk = self._chunks.get()
        most = min(MAX_CHUNK, 1 + self._chunks.qsize() // (4 * len(self._lanes)))
        while chunk is not None:
            chunks.append(chunk)
            if len(chunks) == most:
                return chunks
            try:
                chunk = self._chunks.get_nowait()
            except queue.Empty:
                return chunks
        if chunks:
            self._chunks.put(None)
        return chunks


def _grade(lane: Lane, chunks: Sequence[Chunk]) -> None:
    """Grade chunks in one trip to the worker; a chunk's promise is kept as soon as its own items are done."""
    waiting = deque(chunk for chunk in chunks if chunk.promise.set_running_or_notify_cancel())
    done: list[Graded] = []

    def report(graded: Graded) -> None:
        chunk = waiting[0]
        chunk.report(graded)
        done.append(graded)
        if len(done) == len(chunk.items):
            waiting.popleft().promise.set_result([*done])
            done.clear()

    try:
        lane.grade([item for chunk in waiting for item in chunk.items], report)
    except BaseException as error:
        for chunk in waiting:
            chunk.promise.set_exception(error)


def _makers(
    terms: Sequence[RewardTerm], reward_model: Callable[[RewardTerm], Scorer] | None
) -> dict[int, Callable[[], Scorer]]:
    """Return how to make what is asked and not computed here, by its place among the terms."""
    makers: dict[str, Callable[[RewardTerm], Scorer] | None] = {"judge": Judge, "reward_model": reward_model}
    if reward_model is None and any(t.reward_model is not None for t in terms):
        raise ValueError("a reward model needs tensors, which graders alone have not: use rl.learner.reward_model")
    return {at: functools.partial(make, t) for at, t in enumerate(terms) if (make := makers.get(t.kind)) is not None}


def _ignore(graded: Graded) -> None:
    """For callers that show failures themselves, and want them once."""
