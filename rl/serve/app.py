"""The HTTP front: all endpoints, and how errors become statuses."""

from importlib.metadata import version

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import generate_latest
from sqlalchemy.exc import OperationalError

from lora.messages import single_line
from rl.serve.bounded import BoundedBodies
from rl.serve.errors import Rejected, ServerFault
from rl.serve.routes import futures, runs, sampling, start, training
from rl.serve.service import Service
from rl.serve.timed import Timed

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
    app.include_router(_openai_router())
    app.add_api_route("/metrics", _metrics, methods=["GET"], include_in_schema=False)
    app.add_exception_handler(Rejected, _on_rejected)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(ServerFault, _on_final)
    app.add_exception_handler(OperationalError, _on_database)
    app.add_exception_handler(Exception, _on_final)  # which also writes it into the log
    latency = service.meter.latency
    app.add_middleware(Timed, observe=lambda path, seconds: latency.labels(path).observe(seconds))
    app.add_middleware(BoundedBodies, most_bytes=service.config.limits.body_bytes)
    return app


def _openai_router() -> APIRouter:
    """Return OpenAI's endpoints, whose types are vLLM's: loading them takes seconds."""
    from rl.serve.openai.routes import router

    return router


async def _metrics(request: Request) -> Response:
    service: Service = request.app.state.service
    service.meter.queued.set(service.trainer.queue_length + len(service.futures))
    return Response(generate_latest(service.meter.registry), media_type="text/plain; version=0.0.4")


async def _on_rejected(request: Request, error: Exception) -> Response:
    assert isinstance(error, Rejected)
    return JSONResponse(_body(request, error.status, error.detail), error.status, headers=error.headers)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    lines = [f"{'.'.join(map(str, detail['loc'][1:]))}: {detail['msg']}" for detail in error.errors()]
    return JSONResponse(_body(request, 422, "; ".join(lines[:5])), 422)


async def _on_final(request: Request, error: Exception) -> Response:
    """Answer what no future can tell. It is final, and a 5xx would be asked again and again."""
    detail = str(error) if isinstance(error, ServerFault) else f"the server cannot do this: {single_line(error, 200)}"
    return JSONResponse(_body(request, 400, detail), 400)


async def _on_database(request: Request, _: Exception) -> Response:
    """Answer what may go well soon; clients ask again by themselves."""
    return JSONResponse(_body(request, 503, "the server's database does not answer"), 503, {"retry-after": "1"})


def _body(request: Request, status: int, detail: str) -> dict[str, object]:
    """Return an error as the clients of this endpoint read it."""
    if request.url.path.startswith("/api/"):
        return {"detail": detail}
    return {"error": {"message": detail, "type": "invalid_request_error", "param": None, "code": status}}
