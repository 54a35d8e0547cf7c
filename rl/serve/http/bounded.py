"""Bodies of bounded size, whichever endpoint reads them."""

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rl.serve.errors import TooLarge, error_body

READ_ELSEWHERE = {"/api/v1/forward_backward"}
"""Endpoints that bound what they read themselves, because they have more to say of a body that is too large."""


class BoundedBodies:
    """Refuses a body that says it is larger than allowed, and cuts off one that turns out to be."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] in READ_ELSEWHERE:
            return await self._app(scope, receive, send)
        if _length(scope) > self._most_bytes:
            content = error_body(scope["path"], 413, TooLarge(self._most_bytes).detail)
            refusal = JSONResponse(content, 413, {"connection": "close"})
            return await refusal(scope, receive, send)
        size = 0

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._most_bytes:
                raise HTTPException(413, TooLarge(self._most_bytes).detail)
            return message

        return await self._app(scope, bounded, send)


def _length(scope: Scope) -> int:
    text = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(text) if text.isdigit() else 0
