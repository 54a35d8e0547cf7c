"""The connection of a run to a server: requests, and results that are waited for."""

import asyncio
import itertools
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp

from lora.messages import single_line
from rl.types import LearnerDied

KEYS = ("RANKONE_API_KEY", "TINKER_API_KEY")
HEARTBEAT_S = 10.0
RETRIES = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""Seconds before a request is sent again that was not answered."""
PATIENCE = aiohttp.ClientTimeout(total=60, connect=10)
PROTOBUF = "application/x-protobuf"


class Connection:
    """One session on a server. Requests that got no answer are sent again, and are carried out once."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/") + "/api/v1"
        self._headers = {"X-API-Key": key, "Accept": f"{PROTOBUF}, application/json"}
        self._http: aiohttp.ClientSession | None = None
        self._heart: asyncio.Task[None] | None = None
        self.session_id = ""
        self.numbers = itertools.count(1)
        """Numbers of samplers and models, one each in their session."""

    @classmethod
    def of(cls, url: str) -> Self:
        """Connect with the key in the environment. Raises ValueError if there is none."""
        key = next((os.environ[name] for name in KEYS if os.environ.get(name)), None)
        if key is None:
            raise ValueError(f"the server's key is missing: set {KEYS[0]} to the tml-... key that it printed")
        return cls(url, key)

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(headers=self._headers, timeout=PATIENCE)
        try:
            created = await self.post("create_session", tags=["rankone"], sdk_version="0.38.0")
        except BaseException:
            await self._http.close()
            raise
        self.session_id = created["session_id"]
        self._heart = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._heart is not None
        assert self._http is not None
        self._heart.cancel()
        try:
            async with asyncio.timeout(5):
                reason = {"type": "success" if error is None else "errored"}
                await self.post(f"sessions/{self.session_id}/finish", reason=reason)
        except (ValueError, LearnerDied, TimeoutError):
            pass  # it is gone already, and knows nothing of the session any more
        await self._http.close()

    async def post(self, path: str, data: bytes | None = None, /, **body: Any) -> Any:
        """Return the answer to a request.

        Raises:
            ValueError: the server refused it.
            LearnerDied: the server cannot be reached.
        """
        status, content = await self._send("POST", path, data, body)
        if status >= 400:
            raise ValueError(f"the server refused {path}: {_detail(content)}")
        return content

    async def get(self, path: str) -> Any:
        """Return what is at a path. Raises as `post` does."""
        status, content = await self._send("GET", path, None, {})
        if status >= 400:
            raise ValueError(f"the server refused {path}: {_detail(content)}")
        return content

    async def result(self, path: str, data: bytes | None = None, /, **body: Any) -> Any:
        """Return what a request comes to, which may take as long as it takes. Raises as `post` does, and
        LearnerDied for what the server lost."""
        sent = await self.post(path, data, **body)
        return await self.wait(sent["request_id"])

    async def wait(self, request_id: str) -> Any:
        """Return the result of a request that was sent: JSON, or the bytes of a message."""
        while True:
            status, content = await self._send("POST", "retrieve_future", None, {"request_id": request_id})
            if status == 408:
                continue
            if isinstance(content, dict) and "error" in content:
                _raise(content)
            if status >= 400:
                raise ValueError(f"the server refused the result of {request_id}: {_detail(content)}")
            return content

    async def _send(self, method: str, path: str, data: bytes | None, body: Mapping[str, Any]) -> tuple[int, Any]:
        assert self._http is not None
        what: dict[str, Any] = {} if method == "GET" else {"json": dict(body)} if data is None else {"data": data}
        failure: Exception | None = None
        for pause in (0.0, *RETRIES):
            await asyncio.sleep(pause)
            try:
                async with self._http.request(method, f"{self._url}/{path}", **what) as answer:
                    if answer.status == 429 or answer.status >= 500:
                        failure = ValueError(f"status {answer.status}")
                        continue
                    content = await answer.read() if answer.content_type != "application/json" else await answer.json()
                    return answer.status, content
            except (aiohttp.ClientError, TimeoutError) as error:
                failure = error
        raise LearnerDied(f"the server at {self._url} does not answer: {single_line(failure)}")

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                await self.post("session_heartbeat", session_id=self.session_id)
            except (ValueError, LearnerDied):
                continue  # the next request says it better


def _detail(content: Any) -> str:
    detail = content.get("detail") if isinstance(content, dict) else None
    return str(detail or single_line(content, 200))


def _raise(failure: Mapping[str, Any]) -> None:
    if failure["category"] == "server":
        raise LearnerDied(str(failure["error"]))
    raise ValueError(str(failure["error"]))
