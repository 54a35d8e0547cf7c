"""A sweep as a directory: `sweep.toml`, one run's directory for each point, and what was found."""

from collections.abc import Sequence
from pathlib import Path

from lora.durable import write_file
from rl.config import replaced
from rl.data import absolute_paths
from rl.directory_lock import SWEEP as FILE
from rl.launch import Prepared
from rl.settings import load_config
from rl.sweep.points import Sweep, dump_sweep
from rl.warm_start import absolute_init


def open_directory(sweep: Sweep, prepared: Sequence[Prepared], path: Path, *, resume: bool) -> None:
    """Put the sweep's file into its directory, which is new or to be gone on with.

    Raises:
        ValueError: there is a sweep in it already, or another one than this.
    """
    if (path / FILE).exists() and not resume:
        raise ValueError(f"{path} holds a sweep already; continue it with --resume, or choose another --out")
    for point, one in zip(sweep.points, prepared, strict=True):
        file = path / point.name / "config.toml"
        if file.exists() and load_config(file) != one.config:
            raise ValueError(f"{path / point.name} was run with other settings; choose another --out")
    if not (path / FILE).exists():
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_file(path / FILE, _resolved(sweep).encode())
        except OSError as error:
            raise ValueError(f"cannot write {path}: {error.strerror}; choose another --out") from error


def newest_sweep(name: str) -> Path:
    """The newest sweep of that name below `runs/`. Raises ValueError if there is none."""
    found = sorted(path.parent for path in Path("runs").glob(f"{name}-*/{FILE}"))
    if not found:
        raise ValueError(f"there is no sweep named {name!r} in runs/ to resume; name its directory with --out")
    return found[-1]


def _resolved(sweep: Sweep) -> str:
    """The sweep's file with its base in it, whose relative paths would lead elsewhere."""
    base = replaced(
        sweep.base,
        data=absolute_paths(sweep.base.data, sweep.directory),
        lora=absolute_init(sweep.base.lora, sweep.directory),
    )
    return dump_sweep(sweep.config, sweep.name, base)
