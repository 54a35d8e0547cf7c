"""A language model as a judge, behind an OpenAI-compatible URL, asked from the run's own process by `grading.panel`."""

import asyncio
import hashlib
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rewards.config import RewardTerm
from rewards.functions.scores import RewardFunctionError
from rewards.judge.template import JUDGE_TEMPLATE, fill_template
from rewards.judge.verdict import read_verdict
from rewards.types import Outcome, Problem, Reward

if TYPE_CHECKING:
    from openai import AsyncOpenAI

MOST_REMEMBERED = 2**17
"""Verdicts kept, about 200 bytes each."""
_log = logging.getLogger("rewards")


class Judge:
    """A `Scorer` that asks a model on a server. Every method is for one event loop.

    Raises ValueError when the client is not installed, or the variable that is to hold the key is not set.
    """

    def __init__(self, term: RewardTerm) -> None:
        assert term.judge is not None
        self._term = term
        self._key = _key(term)
        self._client = _client(term, self._key)
        self._free = asyncio.Semaphore(term.concurrency)
        self._known: dict[bytes, Reward] = {}
        self._pending: dict[bytes, asyncio.Task[Reward]] = {}
        self._is_unread = False

    async def score(self, problem: Problem, texts: Sequence[str]) -> list[Reward | RewardFunctionError]:
        """Ask about each text at once, but for those asked about already. What fails is returned, not raised."""
        judged = await asyncio.gather(*[self._score(problem, text) for text in texts], return_exceptions=True)
        return [self._checked(each) for each in judged]

    async def close(self) -> None:
        """Drop the connections."""
        await self._client.close()

    async def _score(self, problem: Problem, text: str) -> Reward:
        message = fill_template(self._term.template or JUDGE_TEMPLATE, problem, text, self._term.scale)
        key = hashlib.sha256(message.encode("utf-8", "surrogatepass")).digest()
        if key in self._known:
            return self._known[key]
        task = self._pending.get(key)
        if task is None:
            task = self._pending[key] = asyncio.create_task(self._ask(message))
            task.add_done_callback(lambda done: self._remember(key, done))
        return await asyncio.shield(task)

    def _remember(self, key: bytes, done: "asyncio.Task[Reward]") -> None:
        del self._pending[key]
        if not done.cancelled() and done.exception() is None:
            self._known[key] = done.result()
            if len(self._known) > MOST_REMEMBERED:
                del self._known[next(iter(self._known))]

    async def _ask(self, message: str) -> Reward:
        async with self._free, asyncio.timeout(self._term.judge_deadline_s):
            answer = await self._client.chat.completions.create(
                model=self._term.model or "",
                messages=[{"role": "user", "content": message.encode("utf-8", "replace").decode()}],
                temperature=self._term.judge_temperature,
                max_tokens=self._term.judge_max_tokens,
            )
        choice = answer.choices[0]
        text = choice.message.content or ""
        verdict = None if choice.finish_reason == "length" else read_verdict(text, self._term.scale)
        if verdict is None:
            self._complain(text)
            return Reward(0.0, Outcome.UNPARSABLE)
        return Reward(verdict, Outcome.CORRECT if verdict >= 0.5 else Outcome.WRONG)

    def _complain(self, answer: str) -> None:
        if not self._is_unread:
            self._is_unread = True
            end = answer[-200:].replace(self._key, "***")
            _log.warning("%s: an answer does not end with a score; further ones are only counted: %r", self._name, end)

    def _checked(self, judged: Reward | BaseException) -> Reward | RewardFunctionError:
        if isinstance(judged, Reward):
            return judged
        if not isinstance(judged, Exception):
            raise judged
        reason = f"no verdict within judge_deadline_s = {self._term.judge_deadline_s:g} s"
        if not isinstance(judged, TimeoutError):
            reason = f"{type(judged).__name__}: {judged}".replace(self._key, "***")[:1000]
        return RewardFunctionError(f"{self._name}: {reason}", f"{self._name}: {type(judged).__name__}")

    @property
    def _name(self) -> str:
        return f"judge {self._term.model} at {self._term.judge}"


def _key(term: RewardTerm) -> str:
    if term.key_env is None:
        return "none"  # the client insists on one
    key = os.environ.get(term.key_env, "").strip()
    if not key:
        raise ValueError(f"set the environment variable {term.key_env}: key_env says that it holds the judge's key")
    return key


def _client(term: RewardTerm, key: str) -> "AsyncOpenAI":
    try:
        from openai import AsyncOpenAI
    except ImportError as error:
        raise ValueError("a judge is asked through the openai package: pip install openai") from error
    return AsyncOpenAI(
        base_url=term.judge, api_key=key, organization="", project="", max_retries=term.retries,
        timeout=term.judge_deadline_s,
    )  # fmt: skip
