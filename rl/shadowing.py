"""rankone's packages are found whatever else has their names on Python's path: a reward file is easily `rewards.py`."""

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path

HOME = Path(__file__).parents[1]
OTHERS = ("lora", "rewards", "rollout")
PARTS = {"rl": "train.py", "lora": "accounting.py", "rewards": "math_answer.py", "rollout": "environment.py"}
"""A file by which each package is known as ours, so that another copy of rankone is no stranger."""


def load_own_packages() -> None:
    """Load the packages beside this one from where they lie, before anything else can be taken for them.

    Raises:
        ImportError: something else was loaded under one of their names already.
    """
    for name in OTHERS:
        if name not in sys.modules:
            _load(name)
        elif not hasattr(sys.modules[name], "__path__"):  # a file, and no package
            file = getattr(sys.modules[name], "__file__", "something else")
            raise ImportError(f"{file} was loaded as {name!r}, which is a package of rankone's: rename it")


def raise_if_shadowed() -> None:
    """See that Ray's processes, which look in the working directory first, will find our packages.

    What they load first of ours is in `rl` or `rollout`; a `rewards` of somebody else's does no harm then.

    Raises:
        ValueError: a file in the working directory, or on PYTHONPATH, has the name of one of them.
    """
    for name in PARTS:
        if name != "rewards" and (file := shadowing_file(name)) is not None:
            raise ValueError(
                f"{file} hides rankone's own package {name!r} from the processes that Ray starts: rename it, or start "
                "this from another directory"
            )


def shadowing_file(name: str) -> Path | None:
    """Return the file that an import of that name finds before ours, in the working directory or on Python's path."""
    spec = PathFinder.find_spec(name, [str(Path.cwd()), *sys.path])
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin)
    return None if file.name == "__init__.py" and (file.parent / PARTS[name]).is_file() else file


def _load(name: str) -> None:
    spec = importlib.util.spec_from_file_location(name, _init(name))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def _init(name: str) -> Path:
    return HOME / name / "__init__.py"
