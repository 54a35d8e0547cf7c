"""The work of a job: one of our commands, read and checked here as that command would read and check it there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rl.config import RunConfig, replaced
from rl.jobs.package import write_job
from rl.run.kind import Kind
from rl.settings.toml import load_config, read_table

Command = Kind | Literal["sweep"]


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A command and the files that it needs."""

    command: Command
    name: str
    file: str
    """The file that the command is given, among those that `write` writes."""
    write: Callable[[Path], None]
    """Fills an empty folder. Raises ValueError if it cannot be sent."""
    configs: Sequence[RunConfig]
    """The runs."""

    @property
    def models(self) -> list[Path]:
        """The directories of models, which are not sent."""
        return sorted(
            {Path(config.model.name).resolve() for config in self.configs if Path(config.model.name).is_dir()}
        )

    @property
    def ignores_local_runtime(self) -> bool:
        """True if a configuration explicitly sets `runtime = "local"`, which jobs ignore: they run on a cluster."""
        return any(not config.on_ray for config in self.configs)


def read_job_spec(path: Path, overrides: Sequence[str], *, sft: bool) -> JobSpec:
    """Return what a file asks for: a sweep if it has a base, else a run, by supervised fine-tuning if `sft`.

    Raises:
        ValueError: anything that would stop it later.
    """
    if "base" in read_table(path):
        if sft:
            raise ValueError(
                f"{path} is a sweep, and `rankone sft` runs one configuration; leave out --sft, and say "
                "recipe = 'sft' in the sweep"
            )
        return _sweep(path, overrides)
    return _run(load_config(path, overrides), path.parent, "sft" if sft else "train")


def _run(config: RunConfig, base: Path, kind: Kind) -> JobSpec:
    from rl.launch.recipes import RECIPES

    recipe = RECIPES[kind]
    recipe.prepare(config, base)
    sent = replaced(config, runtime="ray")
    return JobSpec(kind, recipe.run_name(config), "config.toml", lambda folder: write_job(sent, base, folder), [config])


def _sweep(path: Path, overrides: Sequence[str]) -> JobSpec:
    from rl.jobs.sweep_package import write_sweep_job
    from rl.sweep.directory import FILE
    from rl.sweep.points import load_sweep
    from rl.sweep.run import prepare_sweep

    sweep = load_sweep(path, overrides)
    prepare_sweep(sweep)
    configs = [sweep.base, *(point.config for point in sweep.points)]
    return JobSpec("sweep", sweep.name, FILE, lambda folder: write_sweep_job(sweep, folder), configs)
