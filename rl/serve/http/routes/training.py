"""Endpoints that make, train and save models. All are answered through futures, once however often they are sent."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from rl.serve.errors import Rejected, TooLarge
from rl.serve.http.routes.common import ServiceOf, User, read_body, require_room, require_session, sent
from rl.serve.operations.futures import Answer
from rl.serve.service import Service
from rl.wire import tinker_pb2 as pb
from rl.wire.bodies import CreateModel, LoadWeights, ModelRequest
from rl.wire.gradients import read_place, read_request

router = APIRouter(prefix="/api/v1", tags=["training"])
Json = dict[str, Any]
Work = Callable[[], Coroutine[Any, Any, Answer]]


@router.post("/create_model")
async def create_model(body: CreateModel, service: ServiceOf, user: User) -> Json:
    """Make a model."""
    await require_session(service, user, body.session_id)
    key = "model", body.session_id, body.model_seq_id
    request_id = _once(service, user, key, lambda: service.operations.create_model(user, body))
    return sent(request_id, f"{body.session_id}:train:{body.model_seq_id}")


@router.post("/load_weights")
async def load_weights(body: LoadWeights, service: ServiceOf, user: User) -> Json:
    """Make a model of saved weights."""
    if body.model_id is not None:
        key: Any = None if body.seq_id is None else ("request", body.model_id, body.seq_id)
        model_id = body.model_id
    else:
        await require_session(service, user, body.session_id or "")
        key = "model", body.session_id, body.model_seq_id
        model_id = f"{body.session_id}:train:{body.model_seq_id}"
    return sent(_once(service, user, key, lambda: service.operations.load_weights(user, body)), model_id)


@router.post("/get_info")
async def get_info(body: ModelRequest, service: ServiceOf, user: User) -> Json:
    """A model's shape, and where its tokenizer is."""
    row = await asyncio.to_thread(service.registry.run, user, body.model_id)
    if row is None:
        raise Rejected(404, f"there is no model {body.model_id[:200]!r}")
    facts = service.facts
    data = {"arch": facts.architecture, "model_name": row.base_model, "tokenizer_id": facts.directory}
    about = {"type": "get_info", "model_id": row.id, "is_lora": True, "lora_rank": row.rank}
    return {**about, "model_name": row.base_model, "model_data": data, "optimizer_config": {"type": "adamw"}}


@router.post("/forward_backward")
async def forward_backward(request: Request, service: ServiceOf, user: User) -> Json:
    """Compute logprobs of data, and add the gradients of its loss."""
    try:
        body = await read_body(request, service.config.limits.body_bytes)
    except TooLarge as error:
        return _refused(service, user, error)
    try:
        message = await run_in_threadpool(read_request, body)
    except ValueError as error:
        raise Rejected(400, str(error)) from None
    key = _key(message)
    begun = key is not None and service.futures.known((user, *key)) is not None
    # Those that fill the queue may wait for this one: clients send a batch's first part last.
    if not begun and not service.models.awaits(user, message.model_id, message.seq_id):
        require_room(service, user, len(body))
    work = partial(service.operations.forward_backward, user, message)
    request_id = _once(service, user, key, work, request_bytes=len(body))
    return sent(request_id, message.model_id)


def _refused(service: Service, user: str, error: TooLarge) -> Json:
    """Refuse a request in its turn, which is then used up: its number is never sent again, and the next one is."""
    message = read_place(error.beginning)
    if message is None:
        raise error
    work = partial(service.operations.refuse, user, message, error.detail)
    return sent(_once(service, user, _key(message), work), message.model_id)


def _key(message: pb.ForwardBackwardRequest) -> tuple[str, str, int] | None:
    """Return what a request and its repetitions have in common; one without a number is another each time."""
    return ("request", message.model_id, message.seq_id) if message.seq_id else None


@router.post("/optim_step")
async def optim_step(body: Json, service: ServiceOf, user: User) -> Json:
    """Move a model by its gradients."""
    return _in_turn(service, user, body, service.operations.optim_step)


@router.post("/save_weights")
async def save_weights(body: Json, service: ServiceOf, user: User) -> Json:
    """Save all that a model's next step depends on."""
    return _in_turn(service, user, body, service.operations.save_weights)


@router.post("/save_weights_for_sampler")
async def save_weights_for_sampler(body: Json, service: ServiceOf, user: User) -> Json:
    """Save a model's weights, or make a sampler of them."""
    return _in_turn(service, user, body, service.operations.save_weights_for_sampler)


@router.post("/save_weights_external")
async def save_weights_external(body: Json, service: ServiceOf, user: User) -> Json:
    """Save a model as a PEFT directory to download."""
    return _in_turn(service, user, body, service.operations.save_weights_external)


@router.post("/unload_model")
async def unload_model(body: ModelRequest, service: ServiceOf, user: User) -> Json:
    """End a model; what it saved stays."""

    async def unload() -> Answer:
        model = await service.models.get(user, body.model_id)
        await service.models.remove(model.id)
        return Answer(b'{"type": "unload_model"}')

    return sent(service.futures.begin(user, unload()), body.model_id)


def _in_turn(
    service: Service, user: str, body: Json, operation: Callable[[str, Json], Coroutine[Any, Any, Answer]]
) -> Json:
    """Begin what is done at its place among a model's requests. Only what names that place is looked at here: a number
    that is refused would never come again, and those behind it would wait."""
    model_id, seq_id = body.get("model_id"), body.get("seq_id")
    if not isinstance(model_id, str) or not (seq_id is None or (isinstance(seq_id, int) and seq_id >= 0)):
        raise Rejected(422, "the request needs model_id, a text, and seq_id, a whole number")
    key = None if seq_id is None else ("request", model_id, seq_id)
    return sent(_once(service, user, key, lambda: operation(user, body)), model_id)


def _once(service: Service, user: str, key: Any, work: Work, *, request_bytes: int = 0) -> str:
    """Return the id of the work's result; work that was begun under this key is not begun again."""
    key = None if key is None else (user, *key)
    known = None if key is None else service.futures.known(key)
    return known or service.futures.begin(user, work(), key, request_bytes=request_bytes)
