"""Completions of plain text or of tokens."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, cast

from vllm.entrypoints.openai.completion.protocol import (
    CompletionRequest,
    CompletionResponse,
    CompletionResponseChoice,
    CompletionResponseStreamChoice,
    CompletionStreamResponse,
)

from rl.serve.errors import Rejected
from rl.serve.http.openai.asked import sampling_of
from rl.serve.http.openai.chat import usage_of
from rl.serve.http.openai.draw import Drawn, Stream, draw, open_stream
from rl.serve.http.openai.text_logprobs import behind_prompt, text_logprobs
from rl.serve.service import Service
from rollout.calls.streams import merged
from rollout.types import Completion, PromptQuery

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
    if request.echo:
        raise Rejected(400, "echo is not served with stream: leave one of them out")
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
            rows = part.token_ids, part.logprobs, part.top_logprobs
            logprobs = text_logprobs(service.tokenizer, *rows, begin=lengths[index])
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
    writes = not (request.echo and request.max_tokens == 0)  # the prompt alone is to be scored
    room, most = (prompt, request.max_tokens) if writes else (prompt[:-1], 1)
    sampling = sampling_of(request, service.facts, room, max_tokens=most)
    query = PromptQuery(top_k=request.logprobs) if request.echo and request.logprobs is not None else None
    return await draw(
        service, user, request.model, prompt, sampling, seed=request.seed, top_logprobs=request.logprobs or 0,
        query=query, writes=writes,
    )  # fmt: skip


def _prompts(tokenizer: Any, request: CompletionRequest) -> list[list[int]]:
    """Return the prompts' tokens. Raises Rejected if there are none, or too many, or one is no text."""
    prompt: Any = request.prompt
    if not prompt:
        raise Rejected(400, "prompt is missing: send a text, a list of texts, or tokens")
    parts: list[Any] = [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else list(prompt)
    if len(parts) > MOST_PROMPTS:
        raise Rejected(400, f"{len(parts)} prompts are too many: send at most {MOST_PROMPTS} at a time")
    return [_tokens(tokenizer, request, part) if isinstance(part, str) else list(part) for part in parts]


def _tokens(tokenizer: Any, request: CompletionRequest, text: str) -> list[int]:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Rejected(400, "prompt has half of a surrogate pair, which is no character: leave it out") from None
    return cast("list[int]", tokenizer.encode(text, add_special_tokens=request.add_special_tokens))


def _choice(
    tokenizer: Any, request: CompletionRequest, index: int, drawn: Drawn, completion: Completion
) -> CompletionResponseChoice:
    ids = request.return_token_ids
    rows = behind_prompt(drawn.prompt, drawn.scored, completion)
    return CompletionResponseChoice(
        index=index,
        text=tokenizer.decode(drawn.prompt) + completion.text if request.echo else completion.text,
        finish_reason=completion.finish_reason,
        logprobs=None if request.logprobs is None else text_logprobs(tokenizer, *rows),
        token_ids=list(completion.token_ids) if ids else None,
        prompt_token_ids=drawn.prompt if ids else None,
    )
