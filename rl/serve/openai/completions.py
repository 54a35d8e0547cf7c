"""Completions of plain text or of tokens."""

import asyncio
from typing import Any, cast

from vllm.entrypoints.openai.completion.protocol import (
    CompletionLogProbs,
    CompletionRequest,
    CompletionResponse,
    CompletionResponseChoice,
)
from vllm.entrypoints.serve.engine.protocol import UsageInfo

from rl.serve.errors import Rejected
from rl.serve.openai.asked import sampling_of
from rl.serve.openai.draw import Drawn, draw
from rl.serve.service import Service
from rollout.types import Completion

MOST_PROMPTS = 1024


async def complete(service: Service, user: str, request: CompletionRequest) -> dict[str, Any]:
    """Return the answer to a request for completions, as JSON has it."""
    if request.echo:
        raise Rejected(400, "echo is not served: leave it out, and ask for return_token_ids")
    prompts = _prompts(service.tokenizer, request)
    drawn = await asyncio.gather(*(_draw(service, user, request, prompt) for prompt in prompts))
    completions = [(group, completion) for group in drawn for completion in group.completions]
    choices = [_choice(service.tokenizer, request, index, *pair) for index, pair in enumerate(completions)]
    asked, sampled = sum(len(group.prompt) for group in drawn), sum(group.sampled for group in drawn)
    usage = UsageInfo(prompt_tokens=asked, completion_tokens=sampled, total_tokens=asked + sampled)
    response = CompletionResponse(model=request.model or service.facts.name, choices=choices, usage=usage)
    return response.model_dump(exclude_none=True) | {"policy_version": drawn[0].policy_version}


async def _draw(service: Service, user: str, request: CompletionRequest, prompt: list[int]) -> Drawn:
    sampling = sampling_of(request, service.facts, prompt, max_tokens=request.max_tokens)
    return await draw(
        service, user, request.model, prompt, sampling, seed=request.seed, top_logprobs=request.logprobs or 0
    )


def _prompts(tokenizer: Any, request: CompletionRequest) -> list[list[int]]:
    """Return the prompts' tokens. Raises Rejected if there are none, or too many."""
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


def _logprobs(tokenizer: Any, completion: Completion) -> CompletionLogProbs:
    texts = [tokenizer.decode([token]) for token in completion.token_ids]
    offsets = [sum(map(len, texts[:i])) for i in range(len(texts))]
    tops = [{tokenizer.decode([token]): value for token, value in row} for row in completion.top_logprobs]
    return CompletionLogProbs(
        text_offset=offsets, token_logprobs=list(completion.logprobs), tokens=texts, top_logprobs=list(tops)
    )
