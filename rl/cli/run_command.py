"""What `rankone train` and `rankone sft` share: a run from the command line to its last printed line."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import typer
from rich.console import Console

from rl.config import RunConfig
from rl.launch.train_run import default_directory, newest_directory
from rl.run.directory import RunDirectory, holds_run
from rl.settings.toml import load_config


class Prepared(Protocol):
    """A run before any model is loaded."""

    @property
    def config(self) -> RunConfig: ...


P_contra = TypeVar("P_contra", bound=Prepared, contravariant=True)
P = TypeVar("P", bound=Prepared)


class Run(Protocol[P_contra]):
    """Runs it, and returns the summary line."""

    def __call__(self, prepared: P_contra, directory: RunDirectory, console: Console, *, resume: bool) -> str: ...


def run_to_its_end(
    verb: str,
    prepare: Callable[[RunConfig, Path], P],
    run: Run[P],
    config: Path,
    out: Path | None,
    override: Sequence[str],
    *,
    resume: bool,
) -> None:
    """Prepare and run what the configuration file says.

    Raises:
        ValueError: the user's mistake.
        typer.Exit: it was interrupted.
    """
    console = Console()
    settings = load_config(config, override)
    name = settings.name if verb == "train" else f"{settings.name}-{verb}"
    path = out or (newest_directory(name) if resume else default_directory(name))
    prepared = prepare(settings, config.parent)
    try:
        with RunDirectory(path).locked():
            exists = holds_run(path)
            directory = RunDirectory.open(path) if resume and exists else RunDirectory.create(path, prepared.config)
            if (other := made_by(directory)) not in (None, verb):
                raise ValueError(f"{path} holds a run of `rankone {other}`, which goes on with that command")
            if resume:
                changes = directory.reconfigure(prepared.config) if exists else [f"{path} is new: nothing to resume"]
                console.print(*changes, sep="\n", end="\n" * bool(changes), markup=False, highlight=False)
            summary = run(prepared, directory, console, resume=resume)
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print(
            f"\nstopped; go on with: rankone {verb} {path / 'config.toml'} --out {path} --resume",
            markup=False,
            highlight=False,
        )
        raise typer.Exit(130) from None
    console.print(summary, style="bold green", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"curve    {path / 'curve.png'}\nadapter  {path / 'adapters' / 'best'}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def made_by(directory: RunDirectory) -> str | None:
    """The command that a run was begun with, if it got far enough to tell."""
    rows = directory.metrics()
    return ("sft" if any("eval/log_loss" in row for row in rows) else "train") if rows else None
