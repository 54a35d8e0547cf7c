"""Endpoints about runs and saved weights: lists, deletion, times to live, downloads."""

import asyncio
import hmac
import secrets
import time
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from rl.serve.errors import Rejected
from rl.serve.http.routes.common import ServiceOf, User
from rl.serve.service import Service
from rl.serve.storage.checkpoints import path_of
from rl.serve.storage.database import Checkpoint, TrainingRun
from rl.serve.storage.registry import expiry
from rl.wire.bodies import SetTtl, WeightsInfo
from rl.wire.tinker_path import TYPES, TinkerPath, checked_kind, checked_name, parse_path

router = APIRouter(prefix="/api/v1", tags=["runs"])
Json = dict[str, Any]
LINK_S = 3600
LINK_KEY = secrets.token_bytes(32)
"""Signs links for downloads, which need no key of a user's; they end with the server."""
MOST_LISTED = 1000


@router.get("/training_runs")
async def training_runs(service: ServiceOf, user: User, limit: int = 20, offset: int = 0) -> Json:
    """The user's runs, those used last first."""
    limit = min(max(limit, 0), MOST_LISTED)
    page = await asyncio.to_thread(service.registry.runs, user, limit, max(offset, 0))
    runs = [await asyncio.to_thread(_run_of, service, row) for row in page.rows]
    return {"training_runs": runs, "cursor": _cursor(offset, limit, page.total)}


@router.get("/training_runs/{run_id}")
async def training_run(run_id: str, service: ServiceOf, user: User) -> Json:
    """A run."""
    row = await asyncio.to_thread(service.registry.run, user, run_id)
    if row is None:
        raise Rejected(404, f"there is no training run {run_id[:200]!r}")
    return await asyncio.to_thread(_run_of, service, row)


@router.get("/training_runs/{run_id}/checkpoints")
async def checkpoints_of_run(run_id: str, service: ServiceOf, user: User) -> Json:
    """A run's saved weights."""
    if await asyncio.to_thread(service.registry.run, user, run_id) is None:
        raise Rejected(404, f"there is no training run {run_id[:200]!r}")
    page = await asyncio.to_thread(service.registry.checkpoints, user, run_id)
    return {"checkpoints": [_checkpoint_of(row) for row in page.rows]}


@router.get("/checkpoints")
async def checkpoints(service: ServiceOf, user: User, limit: int = 100, offset: int = 0) -> Json:
    """The user's saved weights, the newest first."""
    limit = min(max(limit, 0), MOST_LISTED)
    page = await asyncio.to_thread(service.registry.checkpoints, user, None, limit, max(offset, 0))
    rows = [_checkpoint_of(row) for row in page.rows]
    return {"checkpoints": rows, "cursor": _cursor(offset, limit, page.total)}


@router.delete("/training_runs/{run_id}/checkpoints/{kind}/{name}")
async def delete_checkpoint(run_id: str, kind: str, name: str, service: ServiceOf, user: User) -> Response:
    """Delete saved weights."""
    path = _path(run_id, kind, name)
    if not await asyncio.to_thread(service.checkpoints.delete, user, path):
        raise _no_weights(path)
    return Response(status_code=204)


@router.put("/training_runs/{run_id}/checkpoints/{kind}/{name}/ttl")
async def set_ttl(run_id: str, kind: str, name: str, body: SetTtl, service: ServiceOf, user: User) -> Json:
    """Change how long saved weights live; null is for ever."""
    await _change(service, user, _path(run_id, kind, name), expires=expiry(body.ttl_seconds))
    return {}


@router.post("/training_runs/{run_id}/checkpoints/{kind}/{name}/publish")
async def publish(run_id: str, kind: str, name: str, service: ServiceOf, user: User) -> Json:
    """Let other users of this server read saved weights."""
    await _change(service, user, _path(run_id, kind, name), public=True)
    return {}


@router.delete("/training_runs/{run_id}/checkpoints/{kind}/{name}/publish")
async def unpublish(run_id: str, kind: str, name: str, service: ServiceOf, user: User) -> Json:
    """Keep saved weights to their owner again."""
    await _change(service, user, _path(run_id, kind, name), public=False)
    return {}


@router.get("/training_runs/{run_id}/checkpoints/{kind}/{name}/external_weights_urls")
async def external_weights_urls(
    run_id: str, kind: str, name: str, request: Request, service: ServiceOf, user: User
) -> Json:
    """Links to the files of a PEFT directory, good for an hour."""
    path = _path(run_id, kind, name)
    row = await asyncio.to_thread(service.registry.checkpoint, user, path)
    if row is None:
        raise _no_weights(path)
    until = int(time.time()) + LINK_S
    base = str(request.base_url).rstrip("/")
    urls = {
        file: f"{base}/api/v1/files/{row.id}/{file}?until={until}&signature={_signature(row, file, until)}"
        for file in ("adapter_model.safetensors", "adapter_config.json")
    }
    return {"urls": urls, "expires": datetime.fromtimestamp(until, UTC).isoformat()}


@router.get("/files/{checkpoint}/{file}")
async def download(checkpoint: int, file: str, until: int, signature: str, service: ServiceOf) -> Response:
    """A file of saved weights, for whoever has a link."""
    row = await asyncio.to_thread(service.registry.checkpoint_by_id, checkpoint)
    good = row is not None and hmac.compare_digest(signature.encode(), _signature(row, file, until).encode())
    if row is None or not good or until < time.time():
        raise Rejected(403, "the link is not good any more: ask for external_weights_urls again")
    try:
        content = await asyncio.to_thread(service.checkpoints.file, row, file)
    except FileNotFoundError:  # deleted, or written anew, since it was looked up
        raise _no_weights(path_of(row)) from None
    return Response(content, media_type="application/octet-stream")


@router.post("/weights_info")
async def weights_info(body: WeightsInfo, service: ServiceOf, user: User) -> Json:
    """The base model, rank and layers of saved weights."""
    try:
        path = parse_path(body.tinker_path)
    except ValueError as error:
        raise Rejected(400, str(error)) from None
    row = await asyncio.to_thread(service.registry.checkpoint, user, path)
    run = None if row is None else await asyncio.to_thread(service.registry.run, row.user, row.run_id)
    if run is None:
        raise _no_weights(path)
    layers = {"train_unembed": run.train_unembed, "train_mlp": run.train_mlp, "train_attn": run.train_attn}
    return {"base_model": run.base_model, "is_lora": True, "lora_rank": run.rank, **layers}


def _run_of(service: Service, row: TrainingRun) -> Json:
    newest = {
        field: _checkpoint_of(checkpoint)
        for field, kind in (("last_checkpoint", "weights"), ("last_sampler_checkpoint", "sampler_weights"))
        if (checkpoint := service.registry.newest(row.id, kind)) is not None
    }
    about = {} if row.user_metadata is None else {"user_metadata": _texts(row.user_metadata)}
    return {
        "training_run_id": row.id, "base_model": row.base_model, "model_owner": row.user, "is_lora": True,
        "lora_rank": row.rank, "corrupted": False, "last_request_time": row.last_request.isoformat(), **newest, **about,
    }  # fmt: skip


def _checkpoint_of(row: Checkpoint) -> Json:
    path = path_of(row)
    more: Json = {} if row.user_metadata is None else {"user_metadata": _texts(row.user_metadata)}
    if row.expires is not None:
        more["expires_at"] = row.expires.isoformat()
    return {
        "checkpoint_id": path.checkpoint_id, "checkpoint_type": TYPES[row.kind], "time": row.created.isoformat(),
        "tinker_path": str(path), "size_bytes": row.size_bytes, "public": row.public, **more,
    }  # fmt: skip


def _texts(metadata: Json) -> dict[str, str]:
    return {name: str(value) for name, value in metadata.items()}


def _cursor(offset: int, limit: int, total: int) -> Json:
    return {"offset": offset, "limit": limit, "total_count": total}


def _path(run_id: str, kind: str, name: str) -> TinkerPath:
    try:
        return TinkerPath(run_id, checked_kind(kind), checked_name(name))
    except ValueError as error:
        raise Rejected(400, str(error)) from None


async def _change(service: Service, user: str, path: TinkerPath, **values: Any) -> None:
    if not await asyncio.to_thread(service.registry.change_checkpoint, user, path, **values):
        raise _no_weights(path)


def _no_weights(path: TinkerPath) -> Rejected:
    return Rejected(404, f"there are no weights {path} of yours")


def _signature(row: Checkpoint, file: str, until: int) -> str:
    # Of the place, which no other weights ever have: SQLite gives the number of deleted ones to the next.
    return hmac.new(LINK_KEY, f"{row.location}/{file}/{until}".encode(), "sha256").hexdigest()
