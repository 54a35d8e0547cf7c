"""Completions for requests of OpenAI's API."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from lora.types import Adapter
from rl.serve.errors import Rejected
from rl.serve.http.openai.names import find_adapter
from rl.serve.sampling.draws import Ask
from rl.serve.service import Service
from rollout.config import SamplingConfig
from rollout.types import Completion, CompletionPart, EngineDied, PromptLogprobs, PromptQuery


@dataclass(frozen=True, slots=True)
class Drawn:
    """A prompt and its completions."""

    prompt: list[int]
    completions: list[Completion]
    policy_version: int
    scored: PromptLogprobs | None = None
    """Logprobs of the prompt, where they were asked for."""

    @property
    def sampled(self) -> int:
        """Number of tokens in the completions."""
        return sum(len(completion.token_ids) for completion in self.completions)


@dataclass(frozen=True, slots=True)
class Stream:
    """A prompt and its completions while they are written."""

    prompt: list[int]
    policy_version: int
    parts: AsyncGenerator[CompletionPart]


async def draw(
    service: Service, user: str, model: str | None, prompt: list[int], sampling: SamplingConfig, *,
    seed: int | None, top_logprobs: int = 0, query: PromptQuery | None = None, writes: bool = True,
) -> Drawn:  # fmt: skip
    """Return completions of a prompt under the policy of that name, and what is asked of the prompt itself.

    Completions are empty where nothing is to be written.
    """
    with _refusals():
        adapter = await _policy(service, user, model, prompt, top_logprobs)
        try:
            ask = Ask(prompt, adapter, sampling, seed, top_logprobs, query, writes)
            sampled = await service.draws.draw(user, ask)
        except asyncio.CancelledError:  # its client went away; how far the engine came, nobody knows
            service.meter.count(user, "sampled", len(prompt))
            raise
    drawn = Drawn(prompt, sampled.completions, adapter.version, sampled.prompt)
    await service.meter.take(user, "sampled", drawn.sampled + len(prompt))
    return drawn


async def open_stream(
    service: Service, user: str, model: str | None, prompt: list[int], sampling: SamplingConfig, *,
    seed: int | None, top_logprobs: int = 0,
) -> Stream:  # fmt: skip
    """Return completions of a prompt that are being written; a request that is refused is refused here."""
    with _refusals():
        adapter = await _policy(service, user, model, prompt, top_logprobs)
        parts = service.engine.stream_parts(prompt, adapter, sampling, seed=_seed(seed), top_logprobs=top_logprobs)
        first = await anext(parts)
    return Stream(prompt, adapter.version, _metered(service, user, len(prompt), first, parts))


async def _metered(
    service: Service, user: str, prompt_tokens: int, first: CompletionPart, rest: AsyncGenerator[CompletionPart]
) -> AsyncGenerator[CompletionPart]:
    """Yield the parts, and count their tokens as the user's, also where nobody waits for the last of them."""
    tokens = prompt_tokens + len(first.token_ids)
    try:
        async with aclosing(rest) as parts:
            yield first
            async for part in parts:
                tokens += len(part.token_ids)
                yield part
    finally:
        await service.meter.take(user, "sampled", tokens)


async def _policy(service: Service, user: str, model: str | None, prompt: list[int], top_logprobs: int) -> Adapter:
    """Return the adapter of that name. Raises ValueError for a request that cannot be served."""
    service.liveness.require_sound()
    if top_logprobs < 0:
        raise ValueError(f"logprobs must be at least 0, and is {top_logprobs}")
    service.facts.check_prompt(prompt)
    return await find_adapter(service, user, model)


def _seed(seed: int | None) -> int:
    return secrets.randbits(63) if seed is None else seed


@contextmanager
def _refusals() -> Generator[None]:
    """Raise errors of engines as what a client is answered."""
    try:
        yield
    except ValueError as error:
        raise Rejected(400, str(error)) from None
    except EngineDied as error:
        raise Rejected(503, str(error)) from None
