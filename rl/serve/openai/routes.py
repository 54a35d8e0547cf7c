"""The endpoints below /v1, and vLLM's own."""

import json
import time
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, StreamingResponse
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

from rl.serve.openai.chat import complete_chat
from rl.serve.openai.completions import complete
from rl.serve.openai.names import BASE
from rl.serve.openai.tokens import GenerateRequest, generate
from rl.serve.routes.common import ServiceOf, User

router = APIRouter(tags=["openai"])
Json = dict[str, Any]


@router.get("/v1/models")
async def models(service: ServiceOf, user: User) -> Json:
    """The base model, and the user's models as they are now."""
    own = [f"{model.id}@latest" for model in service.models.all() if model.user == user]
    about = {"object": "model", "created": int(time.time()), "owned_by": "rankone", "root": service.facts.name}
    rows = [
        {"id": name, **about, "max_model_len": service.facts.max_length} for name in (BASE, service.facts.name, *own)
    ]
    return {"object": "list", "data": rows}


@router.post("/v1/chat/completions")
async def chat_completions(request: ChatCompletionRequest, service: ServiceOf, user: User) -> Response:
    """Answer a chat."""
    answer = await complete_chat(service, user, request)
    usage = bool(request.stream_options and request.stream_options.include_usage)
    return _streamed(_chat_chunks(answer, usage=usage)) if request.stream else JSONResponse(answer)


@router.post("/v1/completions")
async def completions(request: CompletionRequest, service: ServiceOf, user: User) -> Response:
    """Complete a text."""
    answer = await complete(service, user, request)
    return _streamed(iter([answer])) if request.stream else JSONResponse(answer)


@router.post("/inference/v1/generate")
async def generate_tokens(request: GenerateRequest, service: ServiceOf, user: User) -> Json:
    """Complete tokens with tokens."""
    return await generate(service, user, request)


def _streamed(chunks: Iterator[Json]) -> Response:
    """Return an answer as server-sent events."""
    lines = (f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    return StreamingResponse(_ended(lines), media_type="text/event-stream")


def _ended(lines: Iterator[str]) -> Iterator[str]:
    yield from lines
    yield "data: [DONE]\n\n"


def _chat_chunks(answer: Json, *, usage: bool) -> Iterator[Json]:
    """Yield each choice's message, then why it ended, then the usage if it was asked for."""
    head = {**{name: answer[name] for name in ("id", "created", "model")}, "object": "chat.completion.chunk"}
    for choice in answer["choices"]:
        message = dict(choice["message"])
        for number, call in enumerate(message.get("tool_calls", ())):
            call["index"] = number
        part = {name: choice[name] for name in ("index", "logprobs", "token_ids") if name in choice}
        yield {**head, "choices": [{**part, "delta": message, "finish_reason": None}]}
        yield {**head, "choices": [{"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}]}
    if usage:
        yield {**head, "choices": [], "usage": answer["usage"]}
