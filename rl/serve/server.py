"""A server from its settings to its end: opened, announced, and closed in order."""

import contextlib
import re
import secrets
import socket
from collections.abc import Callable, Generator
from pathlib import Path

import uvicorn
from rich.console import Console

from lora.files.atomic_write import write_atomic
from lora.messages import single_line
from rl.cluster.connect import disconnect
from rl.cluster.interrupts import cancel_on_signals
from rl.launch.frozen_heap import frozen_heap
from rl.run.directory_lock import locked
from rl.serve.config import ServeConfig
from rl.serve.http.app import make_app
from rl.serve.service import Service, background, open_service
from rl.serve.storage.database import DATABASE, database_url, open_database
from rl.serve.storage.registry import Registry
from rl.serve.terminal import show

KEY_FILE = "api_key"
FIRST_USER = "admin"
USER = re.compile(r"[A-Za-z0-9._@-]{1,100}")
PREFIX = "tml-"
"""The SDK takes no key that begins otherwise."""
Announce = Callable[[Service, str, str], None]
"""Says that the server is ready: its parts, its URL, and the key of the first user."""


async def serve(
    config: ServeConfig, out: Path, announce: Announce, console: Console, *, key: str | None = None
) -> None:
    """Serve until interrupted; a terminal shows the models meanwhile.

    `key` is the first user's; without it one is made at the first start.

    Raises:
        ValueError: the address is taken, or something that is served from cannot be used.
    """
    make_directory(out)
    cancel_on_signals()
    try:
        with locked(out), listening(config) as listener:
            async with open_service(config, out) as service:
                cancel_on_signals()  # again: Ray has put handlers of its own in place
                announce(service, url_of(config, listener), first_key(service.registry, out, key))
                async with background(show(service, console)):
                    await _run_http(config, service, listener)
    finally:
        disconnect()


def make_directory(out: Path) -> None:
    """Make the server's directory. Raises ValueError if it cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{out} cannot be written: {error.strerror}; choose another --out") from error


@contextlib.contextmanager
def listening(config: ServeConfig) -> Generator[socket.socket]:
    """Listen at the address, before anything is loaded. Raises ValueError if it cannot be had."""
    try:
        listener = socket.create_server((config.host, config.port), backlog=2048, reuse_port=False)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"cannot listen at {config.host}:{config.port}: {single_line(error)}; choose another --port"
        ) from None
    # asyncio sets this for sockets that say they are TCP's, which those of `create_server` do not. Without it the
    # second part of every answer waits 40 ms for the client to acknowledge the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listener:
        yield listener


def url_of(config: ServeConfig, listener: socket.socket) -> str:
    """Return the URL under which clients on this machine reach the server."""
    scheme = "https" if config.tls_certificate else "http"
    host = "127.0.0.1" if config.host in ("0.0.0.0", "::", "") else config.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}"


def first_key(registry: Registry, out: Path, key: str | None) -> str:
    """Return the first user's key, made at the first start and kept in a file that its owner alone may read.

    Raises:
        ValueError: the key that was given does not begin as the SDK wants it.
    """
    file = out / KEY_FILE
    if key is not None and not key.startswith(PREFIX):
        raise ValueError(f"the key must begin with {PREFIX!r}: the SDK takes no other")
    if key is None:
        key = file.read_text().strip() if file.exists() else f"{PREFIX}{secrets.token_urlsafe(32)}"
    if registry.user_of(key) is None:
        registry.add_key(key, FIRST_USER)
    file.touch(mode=0o600, exist_ok=True)
    write_atomic(file, f"{key}\n".encode())
    file.chmod(0o600)
    return key


def make_key(config: ServeConfig, out: Path, user: str) -> str:
    """Return a new key of a user's, who is let in at once, also where the server is up.

    Raises:
        ValueError: the name is none, or there is no such server.
    """
    if not USER.fullmatch(user):
        raise ValueError(f"{user[:100]!r} is no user's name: use at most 100 letters, digits and '._@-'")
    if config.database is None and not (out / DATABASE).exists():
        raise ValueError(f"{out} is no server's directory: start `rankone serve --out {out}` first")
    key = f"{PREFIX}{secrets.token_urlsafe(32)}"
    engine = open_database(database_url(config, out))
    try:
        Registry(engine).add_key(key, user)
    finally:
        engine.dispose()
    return key


async def _run_http(config: ServeConfig, service: Service, listener: socket.socket) -> None:
    settings = uvicorn.Config(
        make_app(service), log_level="warning", access_log=False, timeout_graceful_shutdown=3, lifespan="off",
        ssl_certfile=config.tls_certificate, ssl_keyfile=config.tls_key, timeout_keep_alive=75,
    )  # fmt: skip
    server = _Server(settings)
    with frozen_heap():  # no heartbeat is answered during a collection
        try:
            await server.serve([listener])
        finally:
            server.should_exit = True


class _Server(uvicorn.Server):
    """Leaves signals to the program that it is a part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Do nothing: an interruption cancels the task that serves."""
        yield
