"""Bodies of bounded size, whichever endpoint reads them."""

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BoundedBodies:
    """Refuses a body that says it is larger than allowed, and cuts off one that turns out to be."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if _length(scope) > self._most_bytes:
            return await JSONResponse({"detail": self._too_large()}, 413)(scope, receive, send)
        size = 0

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._most_bytes:
                raise ValueError(self._too_large())
            return message

        return await self._app(scope, bounded, send)

    def _too_large(self) -> str:
        return f"the body is larger than {self._most_bytes} bytes (limits.body_bytes): send less at a time"


def _length(scope: Scope) -> int:
    text = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(text) if text.isdigit() else 0
