"""`rankone sweep`."""

import asyncio
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
    from rl.launch.train_run import default_directory
    from rl.run.directory_lock import sweep_locked
    from rl.sweep.directory import newest_sweep, open_directory
    from rl.sweep.findings import write_findings
    from rl.sweep.points import load_sweep
    from rl.sweep.run import prepare_sweep, run_sweep

    console = Console()
    asked = load_sweep(sweep, override or [])
    path = out or (newest_sweep(asked.name) if resume else default_directory(asked.name))
    prepared = prepare_sweep(asked)
    try:
        with sweep_locked(path):
            for change in open_directory(asked, prepared, path, resume=resume):
                console.print(change, markup=False, highlight=False, soft_wrap=True)
            results = run_sweep(asked, prepared, path, console)
            said, files = write_findings(results, asked.name, path)
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print(
            f"\nstopped; go on with: rankone sweep {path / 'sweep.toml'} --out {path} --resume",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(130) from None
    for line in said:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for file in files:
        console.print(f"  {file}", markup=False, highlight=False, soft_wrap=True)
    if any(result.ended == "failed" for result in results):
        raise typer.Exit(1)
