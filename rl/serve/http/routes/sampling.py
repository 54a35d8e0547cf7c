"""Endpoints that sample."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError

from rl.serve.errors import Rejected, explain
from rl.serve.http.routes.common import ServiceOf, User, read_body, require_room, require_session, sent
from rl.serve.sampling.samplers import SNAPSHOT
from rl.wire.bodies import CreateSamplingSession, Sample

router = APIRouter(prefix="/api/v1", tags=["sampling"])
Json = dict[str, Any]


@router.post("/create_sampling_session")
async def create_sampling_session(body: CreateSamplingSession, service: ServiceOf, user: User) -> Json:
    """Make a sampler of the base model or of saved weights."""
    await require_session(service, user, body.session_id)
    try:
        sampler = await service.samplers.create(
            user, body.session_id, body.sampling_session_seq_id, body.base_model, body.model_path
        )
    except ValueError as error:
        raise Rejected(400, str(error)) from None
    return {"type": "create_sampling_session", "sampling_session_id": sampler}


@router.get("/samplers/{sampler_id}")
async def get_sampler(sampler_id: str, service: ServiceOf, user: User) -> Json:
    """The weights that a sampler samples from."""
    row = await service.samplers.get(user, sampler_id)
    about = {"sampler_id": row.id, "base_model": row.base_model}
    named = row.model_path is not None and not row.model_path.startswith(SNAPSHOT)
    return {**about, "model_path": row.model_path} if named else about


@router.post("/asample")
async def asample(request: Request, service: ServiceOf, user: User) -> Json:
    """Draw samples, and score their prompt."""
    content = await read_body(request, service.config.limits.body_bytes)
    try:
        body = Sample.model_validate_json(content)
    except ValidationError as error:
        raise Rejected(400, explain(error)) from None
    numbered = body.seq_id is not None and body.sampling_session_id is not None
    key = (user, "sample", body.sampling_session_id, body.seq_id) if numbered else None
    request_id = None if key is None else service.futures.known(key)
    if request_id is None:
        require_room(service, user, len(content))
        work = service.operations.sample(user, body)
        request_id = service.futures.begin(user, work, key, request_bytes=len(content), stoppable=True)
    ids = [f"{request_id}-{index}" for index in range(body.num_samples)]
    return sent(request_id, sample_sequence_ids=ids)
