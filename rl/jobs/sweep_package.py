"""What a sweep on a cluster needs from this machine: its file, and what all of its runs need."""

from pathlib import Path
from typing import Any

from rl.config import RunConfig, replaced
from rl.jobs.package import JobPackage, check_size
from rl.sweep.directory import FILE
from rl.sweep.points import Sweep, dump_sweep, load_sweep, with_values


def write_sweep_job(sweep: Sweep, folder: Path) -> None:
    """Fill `folder`. Settings that name files (data, rewards, adapters) name their new places, also where they vary.

    Raises:
        ValueError: as `write_job` for one run.
    """
    parcel = JobPackage(folder, sweep.directory)
    moved: dict[tuple[str, str], Any] = {}
    for point in sweep.points:
        here, there = (one.model_dump(mode="json") for one in (point.config, parcel.add(point.config)))
        for name, value in point.settings.items():
            if _at(here, name) != _at(there, name):
                moved[name, repr(value)] = _at(there, name)
    config = with_values(sweep.config, lambda name, value: moved.get((name, repr(value)), value))
    (folder / FILE).write_text(dump_sweep(config, sweep.name, _on_a_cluster(parcel, sweep.base)), encoding="utf-8")
    check_size(folder)
    assert len(load_sweep(folder / FILE).points) == len(sweep.points)


def _on_a_cluster(parcel: JobPackage, base: RunConfig) -> RunConfig:
    return replaced(parcel.add(base), runtime="ray")


def _at(table: Any, name: str) -> Any:
    """The value of a dotted name; None if it is not there."""
    for key in name.split("."):
        table = table.get(key) if isinstance(table, dict) else None
    return table
