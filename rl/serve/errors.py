"""Errors that clients are told."""

from collections.abc import Mapping, Sequence
from typing import Any

NO_OBJECT = {"missing", "dict_type", "model_type", "model_attributes_type"}
"""Types of pydantic's errors where there is no body, or one that is no object."""


class ServerFault(RuntimeError):
    """Something was lost that its client had a right to; the message says what, and how to go on."""


class Rejected(Exception):
    """A request that is answered with a status in place of a future."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


class TooLarge(Rejected):
    """A body that is larger than allowed, with its beginning, unpacked: it may say whose turn it would have been."""

    def __init__(self, most_bytes: int, beginning: bytes = b"") -> None:
        super().__init__(413, f"the body is larger than {most_bytes} bytes (limits.body_bytes): send less at a time")
        self.beginning = beginning


def explain(error: Any) -> str:
    """Return a validation error of pydantic's in one line."""
    return explain_details(error.errors(include_url=False))


def explain_details(details: Sequence[Mapping[str, Any]], *, skip: int = 0) -> str:
    """Return such an error's details in one line; the first `skip` parts of each place are left out."""
    return "; ".join(_line(detail, skip) for detail in details[:5])


def _line(detail: Mapping[str, Any], skip: int) -> str:
    place = ".".join(map(str, detail["loc"][skip:]))
    message = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "json_invalid":
        return "the body is no JSON"
    if not place and detail["type"] in NO_OBJECT:
        return "the body must be a JSON object, sent as application/json"
    return f"{place}: {message}" if place else message


def is_tinker(path: str) -> bool:
    """Return True if a path is one of the Tinker SDK's endpoints; the others are OpenAI's."""
    return path.startswith("/api/")


def error_body(path: str, status: int, detail: str) -> dict[str, Any]:
    """Return the body of an error as the clients of that path read it."""
    if is_tinker(path):
        return {"detail": detail}
    return {"error": {"message": detail, "type": "invalid_request_error", "param": None, "code": status}}
