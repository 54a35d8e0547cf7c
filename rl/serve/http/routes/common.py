"""Parts that all endpoints share: whose request it is, the server's parts, and bodies of bounded size."""

import asyncio
from typing import Annotated, Any

import zstandard
from fastapi import Depends, Request, Response

from rl.serve.errors import Rejected, TooLarge
from rl.serve.operations.futures import Answer
from rl.serve.service import Service

MOST_READ = 4
"""Times the allowed size that is read of a body which is too large, and thrown away."""
BEGINNING = 1024
"""Bytes of it that are looked at."""
PACKED_BLOCK = 2**18
"""More bytes than the first block of a packed body has (128 KiB), without which none of it can be unpacked."""


async def service_of(request: Request) -> Service:
    """Return the server's parts."""
    return request.app.state.service


async def user_of(request: Request) -> str:
    """Return whose key the request has. Raises Rejected if it has none that is known."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    key = request.headers.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
    user = await known_user(request, key) if key else None
    if user is None:
        raise Rejected(401, "the key is not known here: send the server's tml-... key as X-API-Key or as Bearer token")
    return user


async def known_user(request: Request, key: str) -> str | None:
    """Return whose key it is. It is looked up once, because every request asks."""
    users: dict[str, str] = request.app.state.users
    if key not in users:
        service = await service_of(request)
        if (user := await asyncio.to_thread(service.registry.user_of, key)) is not None:
            users[key] = user
    return users.get(key)


ServiceOf = Annotated[Service, Depends(service_of)]
User = Annotated[str, Depends(user_of)]


async def read_body(request: Request, most_bytes: int) -> bytes:
    """Return the body, unpacked. Raises Rejected if it is larger than allowed, or cannot be unpacked."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        if size <= max(most_bytes, PACKED_BLOCK):
            parts.append(part)
        size += len(part)
        if size > MOST_READ * most_bytes:  # a client hears an answer when all that it sends was read
            break
    body, encoding = b"".join(parts), request.headers.get("content-encoding", "identity")
    if encoding not in ("identity", "zstd"):
        raise Rejected(415, f"content-encoding {encoding!r} is not read here: send zstd or none")
    unpacked = body if encoding == "identity" else _unpacked(body, most_bytes)
    if max(size, len(unpacked)) > most_bytes:
        raise TooLarge(most_bytes, unpacked[:BEGINNING])
    return unpacked


def require_room(service: Service, user: str, size: int) -> None:
    """Raises Rejected if too much of the user's waits already; the SDK sends it again later."""
    pending, limits = service.futures.pending(user), service.config.limits
    full = pending.requests >= limits.queued_requests or pending.bytes + size > limits.queued_bytes
    if service.meter.paused(user) or full:
        raise Rejected(429, "too many requests of yours wait: send this one again later", **{"retry-after": "1"})


async def require_session(service: Service, user: str, session_id: str) -> None:
    """Raises Rejected if the session is not the user's."""
    if await asyncio.to_thread(service.registry.session, user, session_id) is None:
        raise Rejected(404, f"there is no session {session_id[:200]!r}: make a ServiceClient first")


def respond(answer: Answer) -> Response:
    """Return an answer as HTTP has it."""
    return Response(answer.payload, media_type=answer.content_type)


def sent(request_id: str, model_id: str | None = None, **more: Any) -> dict[str, Any]:
    """Return what a client needs in order to ask for the outcome of its request."""
    return {"request_id": request_id, **({} if model_id is None else {"model_id": model_id}), **more}


def _unpacked(body: bytes, most_bytes: int) -> bytes:
    """Return what a body was before it was packed, cut off behind `most_bytes` and a byte."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(body) as reader:
            return reader.read(most_bytes + 1)
    except zstandard.ZstdError:
        raise Rejected(400, "the body is no zstd, as its content-encoding says") from None
