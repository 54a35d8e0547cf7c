"""A process that is measured: it says when it is ready, and answers every turn it is given with one line of JSON.

Two of them take turns, A B A B, and the one whose turn it is not waits for its line and uses no core.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
THREADS = len(os.sched_getaffinity(0))


class Child:
    """Runs one of the `*_child` modules beside this one, from the root: here some have the names of packages."""

    def __init__(
        self, module: str, job: Mapping[str, Any], environment: Mapping[str, str], python: str = sys.executable
    ) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="speed-")
        place = Path(self._scratch.name)
        (place / "job.json").write_text(json.dumps({"threads": THREADS, "scratch": str(place), **job}))
        self._errors = (place / "errors").open("w+")
        self._process = subprocess.Popen(
            [python, "-m", f"bench.compare.{module}", str(place / "job.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **environment},
            cwd=ROOT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._errors.close()
        self._scratch.cleanup()

    def go(self, what: str = "") -> dict[str, Any]:
        """Give it a turn, of several that it may know by name, and wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Wait for what it says next.

        Raises:
            RuntimeError: it ended without a word; with the last lines of what it complained of.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self._errors.seek(0)
        raise RuntimeError("a measured process ended: " + self._errors.read()[-2000:])
