"""The HTTP front: all endpoints, and how errors become statuses."""

from importlib.metadata import version

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import generate_latest
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from lora.messages import single_line
from rl.serve.errors import Rejected, ServerFault, error_body, explain_details, is_tinker
from rl.serve.http.bounded import BoundedBodies
from rl.serve.http.routes import futures, runs, sampling, start, training
from rl.serve.http.timed import Timed
from rl.serve.service import Service

ROUTERS = (start.router, training.router, sampling.router, futures.router, runs.router)


def make_app(service: Service) -> FastAPI:
    """Return the front of a server."""
    app = FastAPI(
        title="rankone serve", summary="Train and sample adapters of one base model.", version=version("rankone")
    )
    app.state.service = service
    app.state.users = {}
    for router in ROUTERS:
        app.include_router(router)
    router, refusal = _openai()
    app.include_router(router)
    app.add_api_route("/metrics", _metrics, methods=["GET"], include_in_schema=False)
    app.add_exception_handler(Rejected, _on_rejected)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ServerFault, _on_final)
    app.add_exception_handler(refusal, _on_refusal)
    app.add_exception_handler(OperationalError, _on_database)
    app.add_exception_handler(Exception, _on_final)  # which also writes it into the log
    latency = service.meter.latency
    app.add_middleware(Timed, observe=lambda path, seconds: latency.labels(path).observe(seconds))
    app.add_middleware(BoundedBodies, most_bytes=service.config.limits.body_bytes)
    return app


def _openai() -> tuple[APIRouter, type[Exception]]:
    """Return OpenAI's endpoints, whose types are vLLM's, and what those raise where fields do not fit each other.

    Loading them takes seconds.
    """
    from rl.serve.http.openai.routes import VLLMValidationError, router

    return router, VLLMValidationError


async def _metrics(request: Request) -> Response:
    service: Service = request.app.state.service
    service.meter.queued.set(service.trainer.queue_length + len(service.futures))
    return Response(generate_latest(service.meter.registry), media_type="text/plain; version=0.0.4")


async def _on_rejected(request: Request, error: Exception) -> Response:
    assert isinstance(error, Rejected)
    return _answer(request, error.status, error.detail, **error.headers)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # OpenAI's clients know 400 as the status of a request that is none.
    return _answer(request, 422 if is_tinker(request.url.path) else 400, explain_details(error.errors(), skip=1))


async def _on_refusal(request: Request, error: Exception) -> Response:
    return _answer(request, 400, single_line(error, 300))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if error.status_code in (404, 405):
        detail = f"this server has no {request.method} {request.url.path[:200]}: /docs lists what it has"
    return _answer(request, error.status_code, detail, **(error.headers or {}))


async def _on_final(request: Request, error: Exception) -> Response:
    """Answer what no future can tell. It is final, and a 5xx would be asked again and again."""
    if isinstance(error, ServerFault):
        return _answer(request, 400, str(error))
    # uvicorn closes the connection after an error of ours: a client that is not told uses it once more, in vain.
    return _answer(request, 400, f"the server cannot do this: {single_line(error, 200)}", connection="close")


async def _on_database(request: Request, _: Exception) -> Response:
    """Answer what may go well soon; clients ask again by themselves."""
    return _answer(request, 503, "the server's database does not answer", **{"retry-after": "1"})


def _answer(request: Request, status: int, detail: str, **headers: str) -> Response:
    """Return an error as the clients of this endpoint read it."""
    return JSONResponse(error_body(request.url.path, status, detail), status, headers)
