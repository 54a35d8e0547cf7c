"""The values of sampling: prompts and an adapter go in, completions come out. No answers are known here."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal, Protocol, Self

import numpy as np
from jaxtyping import UInt8, UInt16

from lora.types import Adapter
from rollout.config import SamplingConfig

TopLogprobs = tuple[tuple[int, float], ...]
"""The likeliest tokens at one place and their logprobs in nats, the likeliest first."""


NARROW = 256
"""Numbers that fit one byte."""


@dataclass(frozen=True, slots=True)
class RoutedExperts:
    """The experts of every token that was read: a prompt's and its completion's, but for the last one.

    Bytes, so that completions can be compared, and travel to another process as they are.
    """

    ids: bytes
    shape: tuple[int, int, int]
    """Tokens, the model's blocks, and the experts that a token goes through; blocks without a mixture have zeros."""
    itemsize: int
    """Bytes of an expert's number: 1 if all are below 256, else 2."""

    @classmethod
    def of(cls, experts: np.ndarray) -> Self:
        """Return those in an array [tokens, blocks, active] of integers."""
        narrow = experts.dtype == np.uint8 or experts.max(initial=0) < NARROW
        tokens, blocks, active = experts.shape
        ids = np.ascontiguousarray(experts, dtype=np.uint8 if narrow else np.uint16)
        return cls(ids.tobytes(), (tokens, blocks, active), ids.itemsize)

    @property
    def array(self) -> UInt8[np.ndarray, "tokens blocks active"] | UInt16[np.ndarray, "tokens blocks active"]:
        """Return them, read-only."""
        return np.frombuffer(self.ids, np.uint8 if self.itemsize == 1 else np.uint16).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled answer.

    Example: ``Completion((28, 2), (-0.1, -0.02), "8", "stop", policy_version=12)``
    """

    token_ids: tuple[int, ...]
    """The tokens, with the one or those that ended it: the end of sequence, a stop token, or a stop text's."""
    logprobs: tuple[float, ...]
    """Each token's, in nats, under the policy and in the distribution that it was drawn from, which is after
    temperature, `min_p`, `top_k` and `top_p`. Those of greedy sampling are at temperature 1."""
    text: str
    """Without special tokens, and without what ended it."""
    finish_reason: Literal["stop", "length"]
    policy_version: int
    top_logprobs: tuple[TopLogprobs, ...] = ()
    """The likeliest tokens in each token's place, in the same distribution, where they were asked for; fewer of them
    where it has fewer."""
    loss_mask: tuple[bool, ...] | None = None
    """False of each token that is not the policy's own, such as an environment's: those have logprob 0.0, are read and
    not learned from. None if all are the policy's."""
    routed_experts: RoutedExperts | None = None
    """The experts that a mixture sent the prompt's and the completion's tokens to, but for the last one, which nothing
    has read; where the engine returns them (`rollout.return_routed_experts`)."""

    @property
    def num_sampled(self) -> int:
        """Tokens of the policy's own."""
        return len(self.token_ids) if self.loss_mask is None else sum(self.loss_mask)


Place = tuple[int, int]
"""A completion's place in a call: the index of its prompt, and its own among the prompt's completions."""


@dataclass(frozen=True, slots=True)
class CompletionPart:
    """The tokens that one of a prompt's completions has gained since its last part.

    Example: the last part of the first one, ``CompletionPart(0, (2,), (-0.02,), "", "stop", policy_version=12)``
    """

    index: int
    """The completion's, among the prompt's."""
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish_reason: Literal["stop", "length"] | None
    """None of every part but the last."""
    policy_version: int
    top_logprobs: tuple[TopLogprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptQuery:
    """A question about a prompt's tokens. The answer is at temperature 1, whatever is sampled behind the prompt.

    Example: ``PromptQuery(top_k=3, targets=((5, -1), (6, 7)))`` for a prompt of three tokens.
    """

    top_k: int = 0
    """The likeliest tokens of every position that is scored; 0 asks for none."""
    last_n: int | None = None
    """Only so many positions at the end are scored, by default all but the first; `targets` say their positions."""
    targets: tuple[tuple[int, ...], ...] = ()
    """Row i has the tokens that are scored at position i + 1, so there is one row less than tokens; -1 is no token, and
    gives 0.0."""

    def positions(self, length: int) -> range:
        """Return the positions of a prompt of so many tokens that are scored; the first token follows nothing."""
        return range(1 if self.last_n is None else max(1, length - self.last_n), length)


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """The answer about a prompt's tokens, in nats at temperature 1."""

    logprobs: tuple[float | None, ...]
    """Each token's; None for the first one, and where it was not asked for."""
    top_logprobs: tuple[TopLogprobs, ...] = ()
    """The likeliest tokens of each position, where they were asked for; empty where `logprobs` has None."""
    target_logprobs: tuple[tuple[float, ...], ...] = ()
    """The targets', in their layout."""


class EngineDied(RuntimeError):
    """A worker ended, or was silent for `rollout.stall_timeout` seconds. Its prompts may be given to another."""


class Engine(Protocol):
    """Samples from a policy. Stateless in the policy: the adapter is an argument of every call."""

    name: str = "the engine"
    """Its name in messages."""

    async def sample(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
        top_logprobs: int = 0,
    ) -> list[list[Completion]]:
        """Return `sampling.group_size` completions of each prompt, in the prompts' order.

        Every prompt has a seed of its own, of 64 bits, so that how prompts are spread over workers changes nothing; its
        completions are drawn independently of each other. `top_logprobs` likeliest tokens come with each token. A call
        that is cancelled stops sampling within a few tokens; others go on.

        Raises:
            ValueError: a prompt and `sampling.max_tokens` are longer than the model's context, or it has no such token.
        """
        ...

    async def stream(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
        top_logprobs: int = 0,
    ) -> AsyncGenerator[tuple[int, list[Completion]]]:
        """Yield what `sample` returns, prompt by prompt as each is done: its index, and its completions.

        An engine that finishes all prompts at once need not say more than this.
        """
        groups = await self.sample(prompts, adapter, sampling, seeds=seeds, top_logprobs=top_logprobs)
        for index, completions in enumerate(groups):
            yield index, completions

    async def stream_completions(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
    ) -> AsyncGenerator[tuple[Place, Completion]]:
        """Yield what `sample` returns, completion by completion as each ends, each once, with its place.

        An engine that finishes all of them at once need not say more than this.
        """
        for index, group in enumerate(await self.sample(prompts, adapter, sampling, seeds=seeds)):
            for place, completion in enumerate(group):
                yield (index, place), completion

    async def stream_places(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: Adapter,
        sampling: SamplingConfig,
        *,
        seeds: Sequence[int],
        places: Sequence[Sequence[int]],
    ) -> AsyncGenerator[tuple[Place, Completion]]:
        """Yield what `stream_completions` yields for these places of each prompt, so that workers may share a prompt.

        An engine that cannot leave out the others writes all of them.
        """
        stream = self.stream_completions(prompts, adapter, sampling, seeds=seeds)
        async with aclosing(stream) as completions:
            async for (index, place), completion in completions:
                if place in places[index]:
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
        """Yield a prompt's completions part by part while they are written; joined, they are what `sample` returns.

        An engine that writes whole completions need not say more than this.

        Raises:
            ValueError: as `sample` does.
            EngineDied: the worker is gone, in the midst of it.
        """
        (group,) = await self.sample([prompt], adapter, sampling, seeds=[seed], top_logprobs=top_logprobs)
        for index, whole in enumerate(group):
            yield CompletionPart(
                index, whole.token_ids, whole.logprobs, whole.text, whole.finish_reason, whole.policy_version,
                whole.top_logprobs,
            )  # fmt: skip

    async def score(self, sequences: Sequence[Sequence[int]], adapter: Adapter) -> list[list[float]]:
        """Return logprobs of every token of each sequence but the first, in nats, at temperature 1."""
        ...

    async def score_prompts(
        self, prompts: Sequence[Sequence[int]], adapter: Adapter, queries: Sequence[PromptQuery]
    ) -> list[PromptLogprobs]:
        """Return the answer to each prompt's query, in the prompts' order.

        Raises:
            ValueError: a prompt is longer than the model's context, or a query is none of its prompt.
        """
        ...

    def progress(self) -> int:
        """Return a count that grows while it works, however long the next answer takes."""
        return 0

    def replicas(self) -> Sequence["Engine"]:
        """Return the engines behind this one, each of which samples on its own."""
        ...

    async def close(self) -> None:
        """Release models, processes and files."""
        ...
