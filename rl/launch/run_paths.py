"""The directories of runs: below `runs/`, named by the run and the time."""

from datetime import datetime
from pathlib import Path


def default_directory(name: str) -> Path:
    """Return a new directory below `runs/`, named by the run and the time."""
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def newest_directory(name: str, *, kind: str = "run", file: str = "config.toml") -> Path:
    """Return the newest run of that name below `runs/`, or what else has that `file`. Raises ValueError without one."""
    when = f"{'[0-9]' * 8}-{'[0-9]' * 6}"  # another run's name may begin with this one's
    paths = sorted(path.parent for path in Path("runs").glob(f"{name}-{when}/{file}"))
    if not paths:
        raise ValueError(f"there is no {kind} named {name!r} in runs/ to resume; name its directory with --out")
    return paths[-1]
