"""Times that requests take in the front."""

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

WAITING = {"/api/v1/retrieve_future"}
"""Endpoints that hold their callers, so that their time says nothing of the front."""


class Timed:
    """Tells how long each request took until its answer began, by the path of its endpoint.

    Plain ASGI: Starlette's own middleware starts tasks and a stream for each request, which is dear where there are
    thousands.
    """

    def __init__(self, app: ASGIApp, observe: Callable[[str, float], object]) -> None:
        self._app = app
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] in WAITING:
            return await self._app(scope, receive, send)
        begin = time.perf_counter()

        async def timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = getattr(scope.get("route"), "path", "unknown")
                self._observe(path, time.perf_counter() - begin)
            await send(message)

        await self._app(scope, receive, timed)
