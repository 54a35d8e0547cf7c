"""rankone's packages are found whatever else has their names on Python's path: a reward file is easily `rewards.py`."""

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path

HOME = Path(__file__).parents[1]
OTHERS = ("lora", "rewards", "rollout")
PARTS = {"rl": "train.py", "lora": "accounting.py", "rewards": "math_answer.py", "rollout": "environment.py"}
"""A file by which each package is known as ours, so that another copy of rankone is no stranger."""
LIBRARIES = ("peft", "ray", "torch", "transformers", "vllm")
"""Libraries that something in a working directory may easily be named like; rooms of `rollout/` and `lora/` are."""


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
    """See that Ray's processes, which look in the working directory first, will find our packages and their libraries.

    What they load first of ours is in `rl` or `rollout`; a `rewards` of somebody else's does no harm then.

    Raises:
        ValueError: a file in the working directory, or on PYTHONPATH, has the name of one of our packages; or one in
            the working directory that of a library.
    """
    for name in PARTS:
        if name != "rewards" and (file := shadowing_file(name)) is not None:
            raise ValueError(
                f"{file} hides rankone's own package {name!r} from the processes that Ray starts: rename it, or start "
                "this from another directory"
            )
    for name in LIBRARIES:
        if (file := file_in_place_of(name)) is not None:
            raise ValueError(
                f"{file} hides the library {name!r} from the processes that Ray starts: rename it, or start this from "
                "another directory"
            )


def shadowing_file(name: str) -> Path | None:
    """Return the file that an import of that name finds before ours, in the working directory or on Python's path."""
    spec = PathFinder.find_spec(name, [str(Path.cwd()), *sys.path])
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin)
    return None if file.name == "__init__.py" and (file.parent / PARTS[name]).is_file() else file


def file_in_place_of(library: str) -> Path | None:
    """Return the file in the working directory that an import of a library finds before the one that is installed."""
    here = str(Path.cwd())
    local = PathFinder.find_spec(library, [here])
    installed = PathFinder.find_spec(library, [path for path in sys.path if path not in ("", here)])
    if local is None or local.origin is None or installed is None or local.origin == installed.origin:
        return None
    return Path(local.origin)


def _load(name: str) -> None:
    spec = importlib.util.spec_from_file_location(name, _init(name))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def _init(name: str) -> Path:
    return HOME / name / "__init__.py"
