"""The obviously-correct reference sampler: plain torch, a key-value cache, and nothing clever.

Slow, repeatable bit for bit on a CPU, and the yardstick that vLLM is compared with in the tests.
"""

import asyncio
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lora.architecture import attends_only, in_one_line
from lora.config import LoraConfig, ModelConfig
from lora.load import load_base, load_tokenizer, token_set
from lora.policy_switch import PolicySwitcher
from lora.types import Adapter
from rollout.config import SamplingConfig
from rollout.distribution import draw, likeliest, token_logprobs
from rollout.limits import Limits
from rollout.prompt_scores import answer
from rollout.row_reader import RowReader, reads_on
from rollout.seeds import Stream
from rollout.stop_tokens import stop_tokens
from rollout.types import Completion, Engine, PromptLogprobs, PromptQuery, TopLogprobs

Result = TypeVar("Result")


@dataclass(slots=True)
class _Writing:
    """A completion in the middle of being written."""

    tokens: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    top_logprobs: list[TopLogprobs] = field(default_factory=list[TopLogprobs])
    ended_by: str | None = None
    """`token` or `text`, once one has ended it."""

    def append(self, token: int, logprob: float, top: TopLogprobs) -> None:
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self.top_logprobs.append(top)


class TorchEngine(Engine):
    """Samples prompts of equal length together; every prompt draws from a random generator of its own.

    Adapters of any shape are served, one after another, and so are all of a model's weights. A call holds the model
    until it is done: no other policy comes between its beginning and its end. After every token the event loop has its
    turn, so that a call can be cancelled.
    """

    def __init__(self, model: ModelConfig, lora: LoraConfig, device: str = "cpu") -> None:
        """`lora` is a shape to be ready for.

        Raises:
            ValueError: the model lacks a layer that it adapts, or its family is not known.
        """
        base: Any = load_base(model)
        self._model: Any = base.to(device).eval()
        self._served = PolicySwitcher(self._model, lora)
        self._tokenizer = load_tokenizer(model)
        with in_one_line(self._model.config.model_type):
            self._attends_only = attends_only(self._model)
            self._cached = reads_on(self._model, attends_only=self._attends_only)
        self._ends = token_set(
            getattr(self._model.generation_config, "eos_token_id", None), self._tokenizer.eos_token_id
        )
        self._special: dict[str, int] = self._tokenizer.get_added_vocab()
        self._device = device
        self._turn: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._positions = 0
        self._limits = Limits(model.max_length, self._model.config.get_text_config().vocab_size)

    async def sample(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
        top_logprobs: int = 0,
    ) -> list[list[Completion]]:
        self._limits.check_sampling(prompts, sampling, top_logprobs)
        async with self._exclusive():
            with self._served.policy(adapter):
                return await _step_by_step(self._sample(prompts, sampling, seeds, adapter.version, top_logprobs))

    async def score(self, sequences: Sequence[Sequence[int]], adapter: Adapter) -> list[list[float]]:
        async with self._exclusive():
            with self._served.policy(adapter):
                return await _step_by_step(self._scores(sequences))

    async def score_prompts(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, queries: Sequence[PromptQuery]
    ) -> list[PromptLogprobs]:
        self._limits.check_queries(prompts, queries)
        async with self._exclusive():
            with self._served.policy(adapter):
                return await _step_by_step(self._answers(prompts, queries))

    def progress(self) -> int:
        return self._positions

    def _exclusive(self) -> asyncio.Lock:
        """Return the lock of the running event loop. An engine may outlive a loop, as in a notebook; a lock cannot."""
        loop = asyncio.get_running_loop()
        if self._turn is None or self._turn[0] is not loop:
            self._turn = (loop, asyncio.Lock())
        return self._turn[1]

    def replicas(self) -> Sequence[Engine]:
        return [self]

    async def close(self) -> None:
        """Do nothing: memory is all that it holds."""

    @torch.no_grad()
    def _scores(self, sequences: Sequence[Sequence[int]]) -> Generator[None, None, list[list[float]]]:
        """Return logprobs of each sequence's tokens in the end; pause after each sequence."""
        scores: list[list[float]] = []
        for sequence in sequences:
            ids = torch.tensor([list(sequence)], device=self._device)
            logprobs = self._model(ids).logits[0, :-1].float().log_softmax(-1)
            scores.append(logprobs.gather(1, ids[0, 1:, None])[:, 0].tolist())
            yield
        return scores

    @torch.no_grad()
    def _answers(
        self, prompts: Sequence[Sequence[int]], queries: Sequence[PromptQuery]
    ) -> Generator[None, None, list[PromptLogprobs]]:
        """Return the answers in the end; pause after each prompt."""
        answers: list[PromptLogprobs] = []
        for prompt, query in zip(prompts, queries, strict=True):
            ids = torch.tensor([list(prompt)], device=self._device)
            answers.append(_answer(prompt, query, self._model(ids).logits[0, :-1].float().log_softmax(-1)))
            self._positions += 1
            yield
        return answers

    @torch.no_grad()
    def _sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingConfig,
        seeds: Sequence[int],
        version: int,
        top_logprobs: int,
    ) -> Generator[None, None, list[list[Completion]]]:
        """Return the completions in the end; pause after each position."""
        by_length: dict[int, list[int]] = defaultdict(list)
        for index, prompt in enumerate(prompts):
            by_length[len(prompt)].append(index)
        groups: dict[int, list[Completion]] = {}
        for indices in by_length.values():
            ids = torch.tensor([list(prompts[i]) for i in indices], device=self._device)
            rows = yield from self._write(ids, sampling, [seeds[i] for i in indices], top_logprobs)
            completions = [self._completion(row, sampling, version, top_logprobs) for row in rows]
            for place, index in enumerate(indices):
                groups[index] = completions[place * sampling.group_size : (place + 1) * sampling.group_size]
        return [groups[i] for i in range(len(prompts))]

    def _write(
        self,
        prompts: Int[Tensor, "prompts length"],
        sampling: SamplingConfig,
        seeds: Sequence[int],
        top_logprobs: int,
    ) -> Generator[None, None, list[_Writing]]:
        """Return what is written behind prompts of equal length, `sampling.group_size` times behind each."""
        streams = [Stream(seed) for seed in seeds]
        reader = RowReader(self._model, cached=self._cached, attends_only=self._attends_only)
        logits = reader.begin(prompts, sampling.group_size)
        rows = [_Writing() for _ in range(len(logits))]
        ends = {*stop_tokens(sampling, self._special), *(() if sampling.ignore_eos else self._ends)}
        for position in range(sampling.max_tokens):
            logprobs = token_logprobs(logits, sampling)
            chosen = _choose(logits, logprobs, sampling, streams)
            chosen_logprobs = logprobs.gather(1, chosen[:, None])[:, 0].float().tolist()
            drawn = zip(rows, chosen.tolist(), chosen_logprobs, likeliest(logprobs, top_logprobs), strict=True)
            for row, token, logprob, top in drawn:
                if row.ended_by is None:
                    row.append(token, logprob, top)
                    row.ended_by = self._end(row.tokens, sampling, ends)
            if all(row.ended_by for row in rows) or position + 1 == sampling.max_tokens:
                break
            self._positions += 1
            yield
            logits = reader.go_on(chosen)
        return rows

    def _completion(self, row: _Writing, sampling: SamplingConfig, version: int, top_logprobs: int) -> Completion:
        text = self._decode(row.tokens[:-1] if row.ended_by == "token" else row.tokens)
        text = text[: min((text.find(stop) for stop in sampling.stop if stop in text), default=len(text))]
        reason = "stop" if row.ended_by else "length"
        top = tuple(row.top_logprobs) if top_logprobs else ()
        return Completion(tuple(row.tokens), tuple(row.logprobs), text, reason, version, top)

    def _end(self, tokens: list[int], sampling: SamplingConfig, ends: set[int]) -> str | None:
        """Return what has ended a completion, if anything has."""
        if tokens[-1] in ends:
            return "token"
        if sampling.stop and any(stop in self._decode(tokens) for stop in sampling.stop):
            return "text"
        return None

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True)


async def _step_by_step(work: Generator[None, None, Result]) -> Result:
    """Return the result of the work; other tasks of the event loop have their turn between its steps."""
    with closing(work):
        while True:
            try:
                next(work)
            except StopIteration as done:
                return done.value
            await asyncio.sleep(0)


def _choose(
    logits: Float[Tensor, "rows vocabulary"],
    logprobs: Float[Tensor, "rows vocabulary"],
    sampling: SamplingConfig,
    streams: Sequence[Stream],
) -> Int[Tensor, " rows"]:
    """Choose the next token of every row, with one uniform number a row."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    numbers = torch.cat([stream.draw(sampling.group_size) for stream in streams])
    return draw(logprobs, numbers.to(logits.device))


def _answer(
    prompt: Sequence[int], query: PromptQuery, logprobs: Float[Tensor, "positions vocabulary"]
) -> PromptLogprobs:
    """Read the answer off the logprobs of all tokens at positions 1, 2, ..."""
    tops = dict(enumerate(likeliest(logprobs, query.top_k), start=1))
    by_token: dict[int, dict[int, float]] = {}
    for position, row in enumerate(logprobs, start=1):
        targets = query.targets[position - 1] if query.targets else ()
        tokens = [prompt[position], *(token for token in targets if token != -1)]
        by_token[position] = dict(zip(tokens, row[tokens].tolist(), strict=True))
    return answer(prompt, query, by_token, tops)
