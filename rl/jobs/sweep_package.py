"""The files of a sweep that a cluster needs from this machine: its own, and those of all its runs."""

from pathlib import Path
from typing import Any

from rl.config import RunConfig, replaced
from rl.jobs.package import JobPackage, check_size
from rl.settings import paths
from rl.sweep.directory import FILE
from rl.sweep.points import Sweep, dump_sweep, load_sweep, with_values


def write_sweep_job(sweep: Sweep, folder: Path) -> None:
    """Fill `folder`. Settings that name files (data, rewards, adapters) name their new places, also where they vary.

    Raises:
        ValueError: as `write_job` for one run.
    """
    package = JobPackage(folder, sweep.directory)
    moved: dict[tuple[str, str], Any] = {}
    for point in sweep.points:
        local, packed = (config.model_dump(mode="json") for config in (point.config, package.add(point.config)))
        for name, value in point.settings.items():
            if paths.get(local, name) != paths.get(packed, name):
                moved[name, repr(value)] = paths.get(packed, name)
    config = with_values(sweep.config, lambda name, value: moved.get((name, repr(value)), value))
    (folder / FILE).write_text(dump_sweep(config, sweep.name, _on_a_cluster(package, sweep.base)), encoding="utf-8")
    check_size(folder)
    assert len(load_sweep(folder / FILE).points) == len(sweep.points)


def _on_a_cluster(package: JobPackage, base: RunConfig) -> RunConfig:
    return replaced(package.add(base), runtime="ray")
