"""The `rankone` command in copies of a process that has loaded everything already: a try takes a moment, and each is a
process of its own, with an exit status, that can be killed when it hangs."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_MEMORY = 12 * 2**30
"""Most address space: a try that asks for all there is must not take the machine along."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a try. Its status is None if it was killed because it hung."""

    status: int | None
    output: str
    """Standard output and standard error."""

    @property
    def complaint(self) -> str:
        """The message of `rankone`, without its own name."""
        lines = [line for line in self.output.splitlines() if line.startswith("rankone: ")]
        return "\n".join(lines).removeprefix("rankone: ")


class Zygote:
    """The process that the copies are made of."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def rankone(self, *arguments: object, cwd: Path | None = None, gone: bool = False, seconds: float = 60) -> Ended:
        """Run the command in a copy, from a directory that is removed at once if it is to be `gone`; it is killed
        after that time."""
        assert self._process.stdin
        assert self._process.stdout
        wanted = [[str(argument) for argument in arguments], None if cwd is None else str(cwd), gone, seconds]
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        return Ended(*json.loads(self._process.stdout.readline()))


@contextlib.contextmanager
def started_zygote() -> Iterator[Zygote]:
    """A zygote with one thread, which is all that a copy has."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", "from zygote import serve; serve()"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Zygote(process)
        assert process.stdin
        process.stdin.close()


def serve() -> None:
    """Run what is asked for on standard input, and answer how it ended."""
    sys.path.insert(0, str(ROOT))

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(_try(*json.loads(line))) + "\n")
        answers.flush()


def _try(arguments: Sequence[str], cwd: str | None, gone: bool, seconds: float) -> tuple[int | None, str]:
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            _be_rankone(arguments, cwd, gone, output.fileno())
        deadline = time.monotonic() + seconds
        status = None
        while status is None and time.monotonic() < deadline:
            found, ended = os.waitpid(child, os.WNOHANG)
            status = os.waitstatus_to_exitcode(ended) if found else None
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        if status is None:
            os.waitpid(child, 0)
        output.seek(0)
        return status, output.read().decode(errors="replace")


def _be_rankone(arguments: Sequence[str], cwd: str | None, gone: bool, output: int) -> None:
    """In the copy: ends it, whatever happens."""
    status = 1
    try:
        os.setsid()
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        if cwd is not None:
            os.chdir(cwd)
            if gone:
                os.rmdir(cwd)  # noqa: PTH106
        sys.argv = ["rankone", *arguments]
        status = _status_of_main()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _status_of_main() -> int:
    import rl.cli.app

    try:
        rl.cli.app.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
