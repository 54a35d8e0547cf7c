"""The obviously-correct reference sampler: plain torch, a key-value cache, and nothing clever.

Slow, repeatable bit for bit on a CPU, and the yardstick that vLLM is compared with in the tests.
"""

import asyncio
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import closing
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
from rollout.row_reader import RowReader, reads_on
from rollout.types import Completion, Engine

Result = TypeVar("Result")


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
        self._device = device
        self._turn: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._positions = 0

    async def sample(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, sampling: SamplingConfig, *, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        async with self._exclusive():
            with self._served.policy(adapter):
                return await _step_by_step(self._sample(prompts, sampling, seeds, adapter.version))

    async def score(self, sequences: Sequence[Sequence[int]], adapter: Adapter) -> list[list[float]]:
        async with self._exclusive():
            with self._served.policy(adapter):
                return await _step_by_step(self._scores(sequences))

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
    def _sample(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingConfig, seeds: Sequence[int], version: int
    ) -> Generator[None, None, list[list[Completion]]]:
        """Return the completions in the end; pause after each position."""
        by_length: dict[int, list[int]] = defaultdict(list)
        for index, prompt in enumerate(prompts):
            by_length[len(prompt)].append(index)
        groups: dict[int, list[Completion]] = {}
        for indices in by_length.values():
            ids = torch.tensor([list(prompts[i]) for i in indices], device=self._device)
            sampled = yield from self._sample_equal_lengths(ids, sampling, [seeds[i] for i in indices], version)
            groups.update(zip(indices, sampled, strict=True))
        return [groups[i] for i in range(len(prompts))]

    def _sample_equal_lengths(
        self, prompts: Int[Tensor, "prompts length"], sampling: SamplingConfig, seeds: Sequence[int], version: int
    ) -> Generator[None, None, list[list[Completion]]]:
        generators = [torch.Generator().manual_seed(seed % 2**63) for seed in seeds]
        reader = RowReader(self._model, cached=self._cached, attends_only=self._attends_only)
        logits = reader.begin(prompts, sampling.group_size)
        tokens: list[list[int]] = [[] for _ in range(len(logits))]
        logprobs: list[list[float]] = [[] for _ in range(len(logits))]
        reasons: list[str | None] = [None] * len(logits)
        for position in range(sampling.max_tokens):
            chosen, chosen_logprobs = _choose(logits, sampling, generators)
            for row, token in enumerate(chosen.tolist()):
                if reasons[row] is None:
                    tokens[row].append(token)
                    logprobs[row].append(chosen_logprobs[row].item())
                    reasons[row] = self._reason(tokens[row], sampling)
            if all(reasons) or position + 1 == sampling.max_tokens:
                break
            self._positions += 1
            yield
            logits = reader.go_on(chosen)
        rows = [
            Completion(tuple(t), tuple(p), self._text(t, sampling), "stop" if reason else "length", version)
            for t, p, reason in zip(tokens, logprobs, reasons, strict=True)
        ]
        return [rows[i : i + sampling.group_size] for i in range(0, len(rows), sampling.group_size)]

    def _reason(self, tokens: list[int], sampling: SamplingConfig) -> str | None:
        if tokens[-1] in self._ends:
            return "stop"
        if sampling.stop and any(stop in self._decode(tokens) for stop in sampling.stop):
            return "stop"
        return None

    def _text(self, tokens: list[int], sampling: SamplingConfig) -> str:
        text = self._decode(tokens)
        return text[: min((text.find(stop) for stop in sampling.stop if stop in text), default=len(text))]

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
    logits: Float[Tensor, "rows vocabulary"], sampling: SamplingConfig, generators: list[torch.Generator]
) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Draw the next token of every row, by inverting the cumulative distribution at one uniform number a row."""
    if sampling.temperature == 0:
        return logits.argmax(-1), torch.zeros(len(logits))
    logprobs = (logits.double() / sampling.temperature).log_softmax(-1)
    uniform = torch.cat([torch.rand(sampling.group_size, 1, generator=g, dtype=torch.float64) for g in generators])
    cumulative = logprobs.exp().cumsum(-1)
    chosen = torch.searchsorted(cumulative, uniform.to(logits.device) * cumulative[:, -1:])
    chosen = chosen.clamp_(max=logits.shape[-1] - 1)
    return chosen[:, 0], logprobs.gather(1, chosen)[:, 0].float()
