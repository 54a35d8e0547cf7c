"""The directories of runs: below `runs/`, named by the run and the time."""

from datetime import datetime
from pathlib import Path


def default_directory(name: str) -> Path:
    """Return a new directory below `runs/`, named by the run and the time."""
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def newest_directory(name: str) -> Path:
    """Return the newest run of that name below `runs/`. Raises ValueError if there is none."""
    when = f"{'[0-9]' * 8}-{'[0-9]' * 6}"
    runs = sorted(path.parent for path in Path("runs").glob(f"{name}-{when}/config.toml"))
    if not runs:
        raise ValueError(f"there is no run named {name!r} in runs/ to resume; name its directory with --out")
    return runs[-1]
