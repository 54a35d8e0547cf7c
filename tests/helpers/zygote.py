"""The `rankone` command in copies of a process that has loaded everything already: a try takes a moment, and each is a
process of its own, with an exit status, that can be killed when it hangs."""

import contextlib
import functools
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_MEMORY = 12 * 2**30
"""Most address space: a try that asks for all there is must not take the machine along."""
LOADED_BY_RUNS = (
    "torch", "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama", "accelerate", "torch.utils.tensorboard", "matplotlib.figure",
    "matplotlib.backends.backend_agg", "rl.cli.app", "rl.cli.run_command", "rl.launch.recipes",
)  # fmt: skip
"""A start spends most of its time on these modules."""
LOADED_BY_OTHERS = (
    "rl.cli.plan_text", "rl.launch.plan", "rl.launch.evaluation", "rl.run.export", "rl.sweep.run", "rl.sweep.session",
    "rl.monitoring.dashboard.report", "rl.jobs.spec", "rl.jobs.submit", "rl.jobs.fetch", "rl.jobs.watch",
    "rl.jobs.sweep_package", "ray.dashboard.modules.job.sdk",
)  # fmt: skip
"""Modules that the other commands load. Named as strings, because an import that nobody uses is soon tidied away."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a try. Its status is None if it was killed because it hung."""

    status: int | None
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


@dataclass(frozen=True, slots=True)
class Try:
    """A command that is asked for."""

    arguments: Sequence[str]
    cwd: str | None
    gone: bool
    """The directory is removed as soon as the command is in it."""
    seconds: float
    """Time after which it is killed."""
    environment: Mapping[str, str] | None
    """By default the zygote's own."""


class Zygote:
    """The process that the copies are made of. It has one thread, which is all that a copy would have."""

    def __init__(self) -> None:
        # It ends with the process that started it, at the end of its standard input.
        self._process = subprocess.Popen(
            [sys.executable, __file__], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def rankone(
        self,
        *arguments: object,
        cwd: Path | None = None,
        gone: bool = False,
        seconds: float = 60,
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run the command in a copy; it is killed after that time."""
        assert self._process.stdin
        assert self._process.stdout
        texts = [str(argument) for argument in arguments]
        asked = [texts, None if cwd is None else str(cwd), gone, seconds, environment and dict(environment)]
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return Ended(*json.loads(self._process.stdout.readline()))


@functools.cache
def shared_zygote() -> Zygote:
    """Return the zygote of all tests of this process, which starts when it is first asked for."""
    return Zygote()


def serve() -> None:
    """Run what is asked for on standard input, and answer how it ended."""
    sys.path[0] = str(Path(sys.executable).parent)  # where Python looks first for the console script
    for name in (*LOADED_BY_RUNS, *LOADED_BY_OTHERS):
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(_try(Try(*json.loads(line)))) + "\n")
        answers.flush()


def _try(command: Try) -> tuple[int | None, str, str]:
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        child = os.fork()
        if child == 0:
            _be_rankone(command, stdout.fileno(), stderr.fileno())
        deadline = time.monotonic() + command.seconds
        status = None
        while status is None and time.monotonic() < deadline:
            pid, ended = os.waitpid(child, os.WNOHANG)
            status = os.waitstatus_to_exitcode(ended) if pid else None
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        if status is None:
            os.waitpid(child, 0)
        stdout.seek(0)
        stderr.seek(0)
        return status, stdout.read().decode(errors="replace"), stderr.read().decode(errors="replace")


def _be_rankone(command: Try, stdout: int, stderr: int) -> None:
    """In the copy: ends it, whatever happens."""
    status = 1
    try:
        os.setsid()
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        if command.environment is not None:
            os.environ.clear()
            os.environ.update(command.environment)
        if command.cwd is not None:
            os.chdir(command.cwd)
            if command.gone:
                os.rmdir(command.cwd)  # noqa: PTH106
        sys.argv = ["rankone", *command.arguments]
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


if __name__ == "__main__":
    serve()
