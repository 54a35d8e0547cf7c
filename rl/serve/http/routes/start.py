"""Endpoints of a client's start and end: flags, sessions, heartbeats."""

import asyncio
import time
import uuid
from typing import Any

from fastapi import APIRouter

from rl.serve.config import ServeConfig
from rl.serve.errors import Rejected
from rl.serve.http.routes.common import ServiceOf, User
from rl.serve.storage.database import ClientSession
from rl.serve.storage.registry import now
from rl.wire.bodies import CreateSession, FinishSession, SessionHeartbeat

router = APIRouter(prefix="/api/v1", tags=["sessions"])
SDK_CHUNK_BYTES = 5_000_000
"""Most of one request's data that the SDK sends at a time, unless it is told otherwise."""
OLDEST_SDK = (0, 25)
"""The first that speaks protobuf both ways."""


@router.post("/client/config")
async def client_config(service: ServiceOf, _: User) -> dict[str, Any]:
    """Flags that decide how the SDK talks to this server."""
    return flags_of(service.config)


@router.post("/client/dynamic_config")
async def dynamic_config(_: User) -> dict[str, Any]:
    """Flags that the SDK asks for again and again."""
    return {"sample_cancel_enabled": True}


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Say that the server is there."""
    return {"status": "ok"}


@router.get("/get_server_capabilities")
async def capabilities(service: ServiceOf, _: User) -> dict[str, Any]:
    """The models that are served."""
    facts = service.facts
    names = [facts.name, *sorted(facts.names - {facts.name})]
    about = {"max_context_length": facts.max_length, "trainable": True, "sampleable": True}
    return {"supported_models": [{"model_name": name, **about} for name in names]}


@router.post("/create_session")
async def create_session(body: CreateSession, service: ServiceOf, user: User) -> dict[str, Any]:
    """Begin a session."""
    session = ClientSession(
        id=str(uuid.uuid4()), user=user, created=now(), tags=list(body.tags), user_metadata=body.user_metadata,
        display_name=body.display_name, end_reason=None,
    )  # fmt: skip
    await asyncio.to_thread(service.registry.add, session)
    service.heartbeats[user, session.id] = time.monotonic()
    about: dict[str, Any] = {"type": "create_session", "session_id": session.id}
    if _version(body.sdk_version) < OLDEST_SDK:
        about["warning_message"] = f"tinker {body.sdk_version} is older than this server knows: use 0.25 or newer"
    return about


@router.post("/session_heartbeat")
async def heartbeat(body: SessionHeartbeat, service: ServiceOf, user: User) -> dict[str, Any]:
    """Note that a client is alive."""
    if (user, body.session_id) not in service.heartbeats:
        session = await asyncio.to_thread(service.registry.session, user, body.session_id)
        if session is None:
            raise Rejected(404, f"there is no session {body.session_id[:200]!r}")
        if session.end_reason is not None:
            raise Rejected(410, "the session was finished")
    service.heartbeats[user, body.session_id] = time.monotonic()
    return {"type": "session_heartbeat"}


@router.post("/sessions/{session_id}/finish")
async def finish_session(session_id: str, body: FinishSession, service: ServiceOf, user: User) -> dict[str, Any]:
    """End a session; its samplers without a name end with it."""
    if await asyncio.to_thread(service.registry.session, user, session_id) is None:
        raise Rejected(404, f"there is no session {session_id[:200]!r}")
    await asyncio.to_thread(service.registry.end_session, session_id, body.reason.type)
    service.end_session(user, session_id)
    return {}


@router.get("/sessions")
async def sessions(service: ServiceOf, user: User, limit: int = 20, offset: int = 0) -> dict[str, Any]:
    """The user's sessions, the newest first."""
    page = await asyncio.to_thread(service.registry.sessions, user, min(max(limit, 0), 1000), max(offset, 0))
    return {"sessions": [row.id for row in page.rows]}


@router.get("/sessions/{session_id}")
async def session(session_id: str, service: ServiceOf, user: User) -> dict[str, Any]:
    """A session's models and samplers."""
    row = await asyncio.to_thread(service.registry.session, user, session_id)
    if row is None:
        raise Rejected(404, f"there is no session {session_id[:200]!r}")
    runs, samplers = await asyncio.to_thread(service.registry.members, session_id)
    about = {name: str(value) for name, value in (row.user_metadata or {}).items()}
    named = {} if row.display_name is None else {"display_name": row.display_name}
    return {"training_run_ids": runs, "sampler_ids": samplers, "user_metadata": about, **named}


@router.post("/telemetry")
async def telemetry(_: User) -> dict[str, str]:
    """Take the SDK's telemetry, and keep none of it."""
    return {"status": "accepted"}


def flags_of(config: ServeConfig) -> dict[str, Any]:
    """Return the SDK's flags: those that are set, and those that keep what it sends within the limits.

    Of its own, it sends the first part of a batch when all later ones were taken. Where those fill the queue, they
    would wait for it, and it for them.
    """
    flags: dict[str, Any] = {"parallel_fwdbwd_chunks": False}
    fits = config.limits.body_bytes // 4  # it counts tensors alone, and short ones have names as long as themselves
    if fits < SDK_CHUNK_BYTES:
        flags["fwdbwd_max_chunk_bytes_count"] = fits
    return flags | config.client_flags


def _version(text: str) -> tuple[int, ...]:
    """Return the first two numbers of a version; one that is none counts as new."""
    parts = text.split(".")[:2]
    return tuple(map(int, parts)) if len(parts) == 2 and all(part.isdigit() for part in parts) else OLDEST_SDK
