"""The endpoints below /v1, and vLLM's own. A request whose client goes away is not carried on with."""

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve.utils.api_utils import with_cancellation
from vllm.exceptions import VLLMValidationError

from rl.serve.errors import Rejected, ServerFault
from rl.serve.http.openai.chat import complete_chat, stream_chat
from rl.serve.http.openai.completions import complete, stream_completions
from rl.serve.http.openai.names import BASE, find_adapter
from rl.serve.http.openai.tokens import GenerateRequest, generate, stream_tokens
from rl.serve.http.routes.common import ServiceOf, User
from rl.serve.service import Service
from rollout.types import EngineDied

__all__ = ["VLLMValidationError", "router"]
router = APIRouter(tags=["openai"])
Json = dict[str, Any]


@router.get("/v1/models")
async def models(service: ServiceOf, user: User) -> Json:
    """The base model, and the user's models as they are now."""
    own = [f"{model.id}@latest" for model in service.models.all() if model.user == user]
    rows = [_model(service, name) for name in (BASE, service.facts.name, *own)]
    return {"object": "list", "data": rows}


@router.get("/v1/models/{name:path}")
async def model(name: str, service: ServiceOf, user: User) -> Json:
    """A model, by any name that completions can be asked of; without a name, all of them."""
    if not name:
        return await models(service, user)
    try:
        await find_adapter(service, user, name)
    except (ValueError, ServerFault) as error:
        raise Rejected(404, str(error)) from None
    return _model(service, name)


def _model(service: Service, name: str) -> Json:
    about = {"object": "model", "created": int(time.time()), "owned_by": "rankone", "root": service.facts.name}
    return {"id": name, **about, "max_model_len": service.facts.max_length}


@router.post("/v1/chat/completions")
@with_cancellation
async def chat_completions(
    request: ChatCompletionRequest, service: ServiceOf, user: User, raw_request: Request
) -> Response:
    """Answer a chat."""
    if request.stream:
        return _streamed(await stream_chat(service, user, request))
    return JSONResponse(await complete_chat(service, user, request))


@router.post("/v1/completions")
@with_cancellation
async def completions(request: CompletionRequest, service: ServiceOf, user: User, raw_request: Request) -> Response:
    """Complete a text."""
    if request.stream:
        return _streamed(await stream_completions(service, user, request))
    return JSONResponse(await complete(service, user, request))


@router.post("/inference/v1/generate")
@with_cancellation
async def generate_tokens(request: GenerateRequest, service: ServiceOf, user: User, raw_request: Request) -> Response:
    """Complete tokens with tokens."""
    if request.stream:
        return _streamed(await stream_tokens(service, user, request))
    return JSONResponse(await generate(service, user, request))


def _streamed(chunks: AsyncGenerator[Json]) -> Response:
    """Return an answer as server-sent events."""
    return StreamingResponse(_events(chunks), media_type="text/event-stream")


async def _events(chunks: AsyncGenerator[Json]) -> AsyncGenerator[str]:
    """Yield each chunk as an event; an error in the midst of them is the last one."""
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                yield f"data: {json.dumps(chunk)}\n\n"
    except (EngineDied, ValueError) as error:
        yield f"data: {json.dumps({'error': {'message': str(error), 'type': 'server_error', 'code': 503}})}\n\n"
    yield "data: [DONE]\n\n"
