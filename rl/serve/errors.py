"""Errors that clients are told."""

from typing import Any


class ServerFault(RuntimeError):
    """Something was lost that its client had a right to; the message says what, and how to go on."""


class Rejected(Exception):
    """A request that is answered with a status in place of a future."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


def explain(error: Any) -> str:
    """Return a validation error of pydantic's in one line."""
    lines = [f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors(include_url=False)]
    return "; ".join(lines[:5])
