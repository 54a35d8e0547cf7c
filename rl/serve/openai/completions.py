"""Completions of plain text or of tokens."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, cast

from vllm.entrypoints.openai.completion.protocol import (
    CompletionLogProbs,
    CompletionRequest,
    CompletionResponse,
    CompletionResponseChoice,
    CompletionResponseStreamChoice,
    CompletionStreamResponse,
)

from rl.serve.errors import Rejected
from rl.serve.openai.asked import sampling_of
from rl.serve.openai.chat import usage_of
from rl.serve.openai.draw import Drawn, Stream, draw, open_stream
from rl.serve.service import Service
from rollout.parts import merged
from rollout.types import Completion, CompletionPart

MOST_PROMPTS = 1024


async def complete(service: Service, user: str, request: CompletionRequest) -> dict[str, Any]:
    """Return the answer to a request for completions, as JSON has it."""
    prompts = _prompts(service.tokenizer, request)
    drawn = await asyncio.gather(*(_draw(service, user, request, prompt) for prompt in prompts))
    completions = [(group, completion) for group in drawn for completion in group.completions]
    choices = await asyncio.to_thread(
        lambda: [_choice(service.tokenizer, request, index, *pair) for index, pair in enumerate(completions)]
    )
    asked, sampled = sum(len(group.prompt) for group in drawn), sum(group.sampled for group in drawn)
    name = request.model or service.facts.name
    response = CompletionResponse(model=name, choices=choices, usage=usage_of(asked, sampled))
    return response.model_dump(exclude_none=True) | {"policy_version": drawn[0].policy_version}


async def stream_completions(service: Service, user: str, request: CompletionRequest) -> AsyncGenerator[dict[str, Any]]:
    """Return the answer in chunks, as JSON has them; a refusal comes before the first one."""
    prompts = _prompts(service.tokenizer, request)
    opened = [_open_stream(service, user, request, prompt) for prompt in prompts]
    return _chunks(service, request, await asyncio.gather(*opened))


async def _chunks(
    service: Service, request: CompletionRequest, streams: Sequence[Stream]
) -> AsyncGenerator[dict[str, Any]]:
    chunk = CompletionStreamResponse(model=request.model or service.facts.name, choices=[])
    more = {"policy_version": streams[0].policy_version}
    lengths: Counter[int] = Counter()
    sampled = 0
    async with aclosing(merged([stream.parts for stream in streams])) as parts:
        async for place, part in parts:
            index = place * (request.n or 1) + part.index
            logprobs = _logprobs(service.tokenizer, part, begin=lengths[index])
            choice = CompletionResponseStreamChoice(
                index=index,
                text=part.text,
                finish_reason=part.finish_reason,
                logprobs=None if request.logprobs is None else logprobs,
                token_ids=list(part.token_ids) if request.return_token_ids else None,
            )
            if request.return_token_ids and index not in lengths:
                choice.prompt_token_ids = streams[place].prompt
            chunk.choices = [choice]
            yield chunk.model_dump(exclude_none=True) | more
            lengths[index] += sum(map(len, logprobs.tokens))
            sampled += len(part.token_ids)
    if request.stream_options and request.stream_options.include_usage:
        chunk.choices, chunk.usage = [], usage_of(sum(len(stream.prompt) for stream in streams), sampled)
        yield chunk.model_dump(exclude_none=True) | more


async def _open_stream(service: Service, user: str, request: CompletionRequest, prompt: list[int]) -> Stream:
    sampling = sampling_of(request, service.facts, prompt, max_tokens=request.max_tokens)
    return await open_stream(
        service, user, request.model, prompt, sampling, seed=request.seed, top_logprobs=request.logprobs or 0
    )


async def _draw(service: Service, user: str, request: CompletionRequest, prompt: list[int]) -> Drawn:
    sampling = sampling_of(request, service.facts, prompt, max_tokens=request.max_tokens)
    return await draw(
        service, user, request.model, prompt, sampling, seed=request.seed, top_logprobs=request.logprobs or 0
    )


def _prompts(tokenizer: Any, request: CompletionRequest) -> list[list[int]]:
    """Return the prompts' tokens. Raises Rejected if there are none, or too many, or they are to be echoed."""
    if request.echo:
        raise Rejected(400, "echo is not served: leave it out, and ask for return_token_ids")
    prompt: Any = request.prompt
    if not prompt:
        raise Rejected(400, "prompt is missing: send a text, a list of texts, or tokens")
    parts: list[Any] = [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else list(prompt)
    if len(parts) > MOST_PROMPTS:
        raise Rejected(400, f"{len(parts)} prompts are too many: send at most {MOST_PROMPTS} at a time")
    return [
        cast("list[int]", tokenizer.encode(part, add_special_tokens=request.add_special_tokens))
        if isinstance(part, str)
        else list(part)
        for part in parts
    ]


def _choice(
    tokenizer: Any, request: CompletionRequest, index: int, drawn: Drawn, completion: Completion
) -> CompletionResponseChoice:
    ids = request.return_token_ids
    return CompletionResponseChoice(
        index=index,
        text=completion.text,
        finish_reason=completion.finish_reason,
        logprobs=None if request.logprobs is None else _logprobs(tokenizer, completion),
        token_ids=list(completion.token_ids) if ids else None,
        prompt_token_ids=drawn.prompt if ids else None,
    )


def _logprobs(tokenizer: Any, completion: Completion | CompletionPart, *, begin: int = 0) -> CompletionLogProbs:
    """Return the logprobs of tokens, the first of which stands behind `begin` letters."""
    texts = [tokenizer.decode([token]) for token in completion.token_ids]
    offsets = list(itertools.accumulate(map(len, texts[:-1]), initial=begin))[: len(texts)]
    tops = [{tokenizer.decode([token]): value for token, value in row} for row in completion.top_logprobs]
    return CompletionLogProbs(
        text_offset=offsets, token_logprobs=list(completion.logprobs), tokens=texts, top_logprobs=list(tops)
    )
