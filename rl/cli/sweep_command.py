"""`rankone sweep`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rl.cli.errors import one_line_errors


@one_line_errors
def sweep_command(
    sweep: Annotated[Path, typer.Argument(help="The sweep's TOML file.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="The sweep's directory; by default a new one below runs/.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it was interrupted.")] = False,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting of the base run; repeatable."),
    ] = None,
) -> None:
    """Train many adapters on one base model, and say and draw which settings were best."""
    from rl.cli.session_output import interruptible, say
    from rl.launch.run_paths import default_directory
    from rl.sweep.directory import newest_sweep
    from rl.sweep.points import load_sweep
    from rl.sweep.run import prepare_sweep
    from rl.sweep.session import run_whole_sweep

    console = Console()
    settings = load_sweep(sweep, override or [])
    path = out or (newest_sweep(settings.name) if resume else default_directory(settings.name))
    prepared = prepare_sweep(settings)
    with interruptible(console, f"rankone sweep {path / 'sweep.toml'} --out {path} --resume"):
        result = run_whole_sweep(settings, prepared, path, console, resume=resume)
    for line in (*result.conclusions, *(f"  {file}" for file in result.files)):
        say(console, line)
    if any(run.ended == "failed" for run in result.results):
        raise typer.Exit(1)
