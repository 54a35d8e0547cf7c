"""Tasks of an environment of verifiers as problems, read by the Python that has verifiers."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from typing import Any, cast

from rewards.types import Problem
from rl.config import ProblemsConfig, Verifiers, replaced
from rl.data.files import locate
from rl.data.split import Split, question_key, set_apart

WORKER = Path(__file__).with_name("verifiers_worker.py")
"""The program of the other side."""
VARIABLE = "VERIFIERS_PYTHON"
OWN = ".venv-verifiers/bin/python"
LOAD_TIMEOUT_S = 600.0
"""Seconds in which a taskset is to list its tasks; it may have to download them."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The place that an environment of verifiers is from."""

    python: str
    env: Mapping[str, Any]
    """The `[env]` table of verifiers."""
    path: tuple[str, ...]
    """Directories in which modules are looked for besides the Python's own."""

    def command(self) -> list[str]:
        """Return the command of the other side, which ends with this process."""
        # -P: the program's own directory has modules that would hide Python's.
        return [self.python, "-P", str(WORKER), str(os.getpid())]

    def setup(self, **more: Any) -> str:
        """Return the first line for it."""
        return json.dumps({"env": dict(self.env), "path": self.path, "tasks": 0, **more}) + "\n"


def origin_of(config: Verifiers, base: Path) -> Origin:
    """Return where a taskset is from. Raises ValueError if there is no Python for it."""
    place = locate(config.taskset, base) if config.taskset.endswith(".py") else None
    if config.taskset.endswith(".py") and place is None:
        raise ValueError(f"data.taskset: there is no file {config.taskset!r}")
    name = config.taskset if place is None else place.stem
    taskset = {**dict(config.env.get("taskset", {})), "id": name}
    path = (str(Path.cwd()),) if place is None else (str(place.resolve().parent), str(Path.cwd()))
    return Origin(find_python(config.python, base), {**config.env, "taskset": taskset}, path)


def with_python(config: ProblemsConfig, base: Path) -> ProblemsConfig:
    """Return the same configuration with absolute paths of the Pythons that have verifiers, as a job needs them.

    It begins in another directory, where no `.venv-verifiers` lies. What `VERIFIERS_PYTHON` names stays unnamed:
    another machine has its own.
    """
    if isinstance(config, tuple):
        return cast("ProblemsConfig", tuple(with_python(source, base) for source in config))
    if not isinstance(config, Verifiers):
        return config
    beside = Path.cwd() / OWN
    if config.python is None and not os.environ.get(VARIABLE) and beside.exists():
        return replaced(config, python=str(beside))
    python = locate(config.python, base) if config.python else None
    return config if python is None else replaced(config, python=os.path.abspath(python))  # noqa: PTH100


def find_python(given: str | None, base: Path) -> str:
    """Return the Python that has verifiers. Raises ValueError, with what to do, if there is none."""
    if given is not None:
        return _program("data.python", given, base)
    if named := os.environ.get(VARIABLE):
        return _program(VARIABLE, named, Path.cwd())
    if Path(OWN).exists():
        return str(Path.cwd() / OWN)
    if importlib.util.find_spec("verifiers") is not None:
        return sys.executable
    raise ValueError(
        f"there is no Python with verifiers on {gethostname()}: {_making(OWN)}; from another directory, and in a job, "
        f"name it by data.python, or by {VARIABLE} where machines have it in different places"
    )


def _program(key: str, given: str, base: Path) -> str:
    """Return the absolute path of a program that `key` names. Raises ValueError if there is none."""
    place = (None if os.sep in given else shutil.which(given)) or locate(given, base)
    if place is None or not os.access(place, os.X_OK):
        raise ValueError(
            f"{key}: there is no program {given!r} on {gethostname()}: {_making(given)}, or name another; where "
            f"machines have it in different places, leave data.python out and set {VARIABLE} on each"
        )
    # The link of a virtual environment is kept: what it leads to is a Python without its packages.
    return os.path.abspath(place)  # noqa: PTH100


def _making(python: str) -> str:
    """Return how to make a Python with verifiers, at that place if it looks like one."""
    programs = Path(python if Path(python).parent.name == "bin" else OWN).parent
    return f"make one by `python -m venv {programs.parent}` and `{programs}/pip install verifiers==0.4.0`"


def load_verifiers(config: Verifiers, seed: int, base: Path) -> Split:
    """Read an environment's tasks and set some apart.

    Raises:
        ValueError: there is no Python with verifiers, or it cannot load the taskset, or there are too few tasks.
    """
    origin = origin_of(config, base)
    tasks = _listed(config, origin, config.num_train + config.num_held_out)
    problems = _problems(config.taskset, tasks)
    return set_apart(problems, config.num_held_out, seed, f"data.taskset {config.taskset!r}")


def _listed(config: Verifiers, origin: Origin, most: int) -> list[dict[str, Any]]:
    try:
        ended = subprocess.run(
            origin.command(), input=origin.setup(tasks=most), stdout=subprocess.PIPE, text=True,
            timeout=LOAD_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ValueError(f"data.taskset: {config.taskset!r} listed no tasks within {LOAD_TIMEOUT_S:.0f} s") from None
    except OSError as error:
        raise ValueError(f"data.python: {origin.python} cannot be run: {error.strerror}") from None
    answer: dict[str, Any] = (
        json.loads(ended.stdout) if ended.stdout.strip() else {"error": f"it exited with {ended.returncode}"}
    )
    if "error" in answer:
        raise ValueError(f"data.taskset: verifiers cannot load {config.taskset!r}: {answer['error']}")
    if not answer["tasks"]:
        raise ValueError(f"data.taskset: {config.taskset!r} has no tasks")
    return answer["tasks"]


def _problems(taskset: str, tasks: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """Return tasks as problems. One whose prompt others have, too, has its label in the question: it may differ in
    what the prompt does not say."""
    prompts = Counter(question_key(task["prompt"] or "") for task in tasks)
    name = Path(taskset).stem
    problems: list[Problem] = []
    for number, task in enumerate(tasks):
        prompt = task["prompt"] or ""
        shared = prompts[question_key(prompt)] > 1 or not prompt
        question = f"{prompt} [{task['label']}]".strip() if shared else prompt
        problems.append(Problem(f"{name}/{number}", question, "", {"task": task["data"]}))
    return problems
