"""Endpoints that hand out results."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from rl.serve.http.routes.common import ServiceOf, User, respond
from rl.serve.operations.futures import Failure
from rl.wire.bodies import CancelFuture, CancelFutures, RetrieveFuture

router = APIRouter(prefix="/api/v1", tags=["futures"])
HOLD_S = 30.0
"""Seconds that a client is kept waiting for a result, before it is to ask again; it gives up at 45."""


@router.post("/retrieve_future")
async def retrieve_future(body: RetrieveFuture, service: ServiceOf, user: User) -> Response:
    """The result of a request, or 408 if there is none within half a minute."""
    outcome = await service.futures.wait(user, body.request_id, HOLD_S)
    if outcome is None:
        paused = service.meter.paused(user)
        state = {"queue_state": "paused_rate_limit" if paused else "active"}
        reason = {"queue_state_reason": "limits.tokens_per_minute is reached"} if paused else {}
        return JSONResponse({"type": "try_again", "request_id": body.request_id, **state, **reason}, 408)
    if isinstance(outcome, Failure):
        return JSONResponse({"error": outcome.error, "category": outcome.category})
    return respond(outcome)


@router.post("/cancel_future")
async def cancel_future(body: CancelFuture, service: ServiceOf, user: User) -> dict[str, Any]:
    """Stop a sample that nobody waits for any more."""
    service.futures.cancel(user, body.request_id)
    return {}


@router.post("/cancel_futures")
async def cancel_futures(body: CancelFutures, service: ServiceOf, user: User) -> dict[str, Any]:
    """Stop several samples."""
    for request_id in body.request_ids:
        service.futures.cancel(user, request_id)
    return {}
