"""Paths in a configuration: relative ones start at the configuration file's directory, then at the current one."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

from rl.config import Addition, Gsm8k, Hub, JsonLines, Math, ProblemsConfig, ReasoningGym, Verifiers, replaced
from rl.data.columns import shown


def locate(path: str, base: Path) -> Path | None:
    """Return the existing file or directory that `path` means, or None. Raises ValueError if that cannot be told."""
    try:
        given = Path(path).expanduser()
        for start in (base, Path.cwd()):
            if (start / given).exists():
                return start / given
    except (OSError, RuntimeError) as error:  # a name that is too long, a place that is not ours to see, ~nobody
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ValueError(f"cannot look for {shown(path)}: {reason}") from None
    return None


def require_file(path: str, base: Path, key: str) -> Path:
    """Return the existing file that the configuration's `key` names. Raises ValueError, saying where it looked."""
    file = locate(path, base)
    if file is None:
        raise ValueError(f"{key}: there is no file {shown(path)}{_places(path, base)}")
    if not file.is_file():
        raise ValueError(f"{key}: {path!r} is {'a directory' if file.is_dir() else 'something else'}, not a file")
    return file


def require_directory(path: str, base: Path, key: str) -> Path:
    """Return the existing directory that the configuration's `key` names. Raises ValueError, saying where it looked."""
    directory = locate(path, base)
    if directory is None:
        raise ValueError(f"{key}: there is no directory {shown(path)}{_places(path, base)}")
    if not directory.is_dir():
        raise ValueError(f"{key}: {path!r} is a file, not a directory")
    return directory


def absolute_paths(config: ProblemsConfig, base: Path) -> ProblemsConfig:
    """Return the same configuration with absolute paths of its existing files, so that it can be written elsewhere."""
    if isinstance(config, tuple):
        return cast("ProblemsConfig", tuple(absolute_paths(source, base) for source in config))
    absolute = with_paths(config, lambda path: _absolute(path, base))
    if isinstance(absolute, Verifiers) and absolute.python and (python := locate(absolute.python, base)) is not None:
        # The link of a virtual environment is kept: what it leads to is a Python without its packages.
        return replaced(absolute, python=os.path.abspath(python))  # noqa: PTH100
    return absolute


def with_paths(config: ProblemsConfig, change: Callable[[str], str]) -> ProblemsConfig:
    """Return the same configuration with every path (or a hub's id in a path's place) changed."""
    if isinstance(config, tuple):
        return cast("ProblemsConfig", tuple(with_paths(source, change) for source in config))
    match config:
        case JsonLines() | Math():
            held_out = None if config.held_out is None else change(config.held_out)
            return replaced(config, train=change(config.train), held_out=held_out)
        case Gsm8k() | Hub():
            return replaced(config, path=change(config.path))
        case Verifiers():
            taskset = change(config.taskset) if config.taskset.endswith(".py") else config.taskset
            return replaced(config, taskset=taskset)
        case Addition() | ReasoningGym():
            return config


def _absolute(path: str, base: Path) -> str:
    place = locate(path, base)
    return path if place is None else str(place.resolve())


def _places(path: str, base: Path) -> str:
    if Path(path).expanduser().is_absolute():
        return ""
    places = dict.fromkeys(str(place.resolve()) for place in (base, Path.cwd()))
    return " in " + " or ".join(places)
