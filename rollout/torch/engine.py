"""The obviously-correct reference sampler: plain torch, a key-value cache, and nothing clever.

Slow, repeatable bit for bit on a CPU, and the yardstick that vLLM is compared with in the tests.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lora.base.architecture import attends_only, in_one_line
from lora.base.load import load_base
from lora.base.router_replay import routers_of
from lora.base.tokenizer import load_tokenizer, token_set
from lora.config import LoraConfig, ModelConfig
from lora.policy_switch import PolicySwitcher
from lora.types import Adapter
from rollout.calls.limits import Limits
from rollout.calls.seeds import Stream
from rollout.calls.stop_tokens import stop_tokens
from rollout.calls.streams import relayed
from rollout.config import SamplingConfig
from rollout.torch.distribution import draw, likeliest, token_logprobs
from rollout.torch.prompt_answer import read_answer
from rollout.torch.routed_rows import RoutedRows
from rollout.torch.row_reader import RowReader, reads_on
from rollout.torch.writing import Growth, OnRows, Texts, Writing
from rollout.types import Completion, CompletionPart, Engine, Place, PromptLogprobs, PromptQuery

Result = TypeVar("Result")


class TorchEngine(Engine):
    """Samples prompts of equal length together; every prompt draws from a random generator of its own.

    Adapters of any shape are served, one after another, and so are all of a model's weights. A call holds the model
    until it is done: no other policy comes between its beginning and its end. After every token the event loop has its
    turn, so that a call can be cancelled.
    """

    def __init__(
        self, model: ModelConfig, lora: LoraConfig, device: str = "cpu", *, return_routed_experts: bool = False
    ) -> None:
        """`lora` is a shape to be ready for; with `return_routed_experts`, completions have those of a mixture.

        Raises:
            ValueError: the model lacks a layer that it adapts, its family is not known, or its routers are not.
        """
        base: Any = load_base(model)
        self._model: Any = base.to(device).eval()
        self._served = PolicySwitcher(self._model, lora)
        self._routers = routers_of(self._model) if return_routed_experts else None
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
        every = [range(sampling.group_size)] * len(prompts)
        return await self._sample_places(prompts, adapter, sampling, seeds, every, top_logprobs)

    async def stream_places(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
        places: Sequence[Sequence[int]],
    ) -> AsyncGenerator[tuple[Place, Completion]]:
        for index, group in enumerate(await self._sample_places(prompts, adapter, sampling, seeds, places)):
            for place, completion in zip(places[index], group, strict=True):
                yield (index, place), completion

    async def stream_parts(
        self,
        prompt: Sequence[int],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seed: int,
        top_logprobs: int = 0,
    ) -> AsyncGenerator[CompletionPart]:
        """As the protocol has it, a token at a time. Who reads slowly keeps nobody waiting."""
        parts: asyncio.Queue[CompletionPart] = asyncio.Queue()
        growth = Growth(self._texts(sampling), sampling.max_tokens, adapter.version, top_logprobs)

        def put(rows: Sequence[Writing]) -> None:
            for part in growth.parts(rows):
                parts.put_nowait(part)

        every = [range(sampling.group_size)]
        writing = self._sample_places([prompt], adapter, sampling, [seed], every, top_logprobs, put)
        async with aclosing(relayed(parts, writing)) as relay:
            async for part in relay:
                yield part

    async def _sample_places(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        seeds: Sequence[int],
        places: Sequence[Sequence[int]],
        top_logprobs: int = 0,
        on_rows: OnRows | None = None,
    ) -> list[list[Completion]]:
        """Return the completions of these places of each prompt; `on_rows` is for a single prompt."""
        self._limits.check_sampling(prompts, sampling, top_logprobs)
        async with self._exclusive():
            with self._served.policy(adapter):
                work = self._sample(prompts, sampling, seeds, places, adapter.version, top_logprobs, on_rows)
                return await _step_by_step(work)

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
            answers.append(read_answer(prompt, query, self._model(ids).logits[0, :-1].float().log_softmax(-1)))
            self._positions += 1
            yield
        return answers

    @torch.no_grad()
    def _sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingConfig,
        seeds: Sequence[int],
        places: Sequence[Sequence[int]],
        version: int,
        top_logprobs: int,
        on_rows: OnRows | None,
    ) -> Generator[None, None, list[list[Completion]]]:
        """Return the completions in the end; pause after each position."""
        alike: dict[tuple[int, tuple[int, ...]], list[int]] = defaultdict(list)
        for index, prompt in enumerate(prompts):
            alike[len(prompt), tuple(places[index])].append(index)
        groups, texts = dict[int, list[Completion]](), self._texts(sampling)
        for (_, drawn), indices in alike.items():
            ids = torch.tensor([list(prompts[i]) for i in indices], device=self._device)
            rows = yield from self._write(
                ids, sampling, [seeds[i] for i in indices], drawn, texts, top_logprobs, on_rows
            )
            completions = [texts.completion(row, version, top_logprobs) for row in rows]
            for number, index in enumerate(indices):
                groups[index] = completions[number * len(drawn) : (number + 1) * len(drawn)]
        return [groups[i] for i in range(len(prompts))]

    def _write(
        self,
        prompts: Int[Tensor, "prompts length"],
        sampling: SamplingConfig,
        seeds: Sequence[int],
        places: Sequence[int],
        texts: Texts,
        top_logprobs: int,
        on_rows: OnRows | None,
    ) -> Generator[None, None, list[Writing]]:
        """Return what is written behind prompts of equal length, once for each of the places behind each."""
        streams = [Stream(seed) for seed in seeds]
        reader = RowReader(self._model, cached=self._cached, attends_only=self._attends_only)
        routed = RoutedRows(self._routers, len(prompts) * len(places))
        with routed.reading(len(prompts) if self._attends_only else len(prompts) * len(places)):
            logits = reader.begin(prompts, len(places))
        rows = [Writing() for _ in range(len(logits))]
        for position in range(sampling.max_tokens):
            logprobs = token_logprobs(logits, sampling)
            chosen = _choose(logits, logprobs, sampling, streams, places)
            chosen_logprobs = logprobs.gather(1, chosen[:, None])[:, 0].float().tolist()
            drawn = zip(rows, chosen.tolist(), chosen_logprobs, likeliest(logprobs, top_logprobs), strict=True)
            for row, token, logprob, top in drawn:
                if row.ended_by is None:
                    row.append(token, logprob, top)
                    row.ended_by = texts.end(row.tokens)
            if on_rows is not None:
                on_rows(rows)
            if all(row.ended_by for row in rows) or position + 1 == sampling.max_tokens:
                break
            self._positions += 1
            yield
            with routed.reading(len(rows)):
                logits = reader.go_on(chosen)
        lengths = [prompts.shape[1] + len(row.tokens) - 1 for row in rows]
        for row, experts in zip(rows, routed.experts(lengths), strict=True):
            row.routed_experts = experts
        return rows

    def _texts(self, sampling: SamplingConfig) -> Texts:
        ends = frozenset(() if sampling.ignore_eos else self._ends)
        return Texts(self._tokenizer, sampling.stop, ends | set(stop_tokens(sampling, self._special)))


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
    places: Sequence[int],
) -> Int[Tensor, " rows"]:
    """Choose the next token of every row, with one uniform number a row.

    A prompt's stream has a number for each of its completions, also of those that are written elsewhere.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    numbers = torch.cat([stream.draw(sampling.group_size)[list(places)] for stream in streams])
    return draw(logprobs, numbers.to(logits.device))
