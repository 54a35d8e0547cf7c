"""A server in a process of its own, as a user starts it, and the official client against it."""

import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tinker

TIMEOUT_S = 120.0
# A client that is left behind beats on when its server is gone, and would warn in the middle of other tests.
logging.getLogger("tinker").setLevel(logging.CRITICAL)
LOCAL = ("runtime=local", "model.dtype=float32", "model.max_length=128", "placement.wait_for_nodes=no")


@dataclass(frozen=True)
class Served:
    """A server that is up."""

    url: str
    key: str
    process: "subprocess.Popen[str]"
    out: Path
    """Its directory."""

    def client(self, **more: Any) -> tinker.ServiceClient:
        """Return the official client of this server."""
        return tinker.ServiceClient(base_url=self.url, api_key=self.key, **more)

    def environment(self) -> dict[str, str]:
        """Return what a client's process needs to find this server."""
        return {**os.environ, "TINKER_BASE_URL": self.url, "TINKER_API_KEY": self.key}


def start(out: Path, *settings: str, model: str = "tiny-random", port: int = 0) -> Served:
    """Start a server, by default on a free port, and wait until it is ready."""
    sets = [part for setting in settings for part in ("--set", setting)]
    command = [
        sys.executable,
        "-m",
        "rl.cli",
        "serve",
        "--model",
        model,
        "--port",
        str(port),
        "--out",
        str(out),
        *sets,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if match := re.search(r"TINKER_BASE_URL=(\S+) TINKER_API_KEY=(\S+)", line):
            return Served(match[1], match[2], process, out)
    raise AssertionError(f"the server ended with {process.wait()}: {''.join(lines)}")


def stop(served: Served, *, by: signal.Signals = signal.SIGINT) -> int:
    """End a server, and return its exit status."""
    served.process.send_signal(by)
    deadline = time.monotonic() + 60
    while served.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if served.process.poll() is None:
        served.process.kill()
    return served.process.wait()


@contextmanager
def serving(out: Path, *settings: str, model: str = "tiny-random") -> Generator[Served]:
    """A server inside the block: of tiny float32 models with the torch engine, unless the settings say otherwise."""
    served = start(out, *(settings or LOCAL), model=model)
    try:
        yield served
    finally:
        stop(served)
