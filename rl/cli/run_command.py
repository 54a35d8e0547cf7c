"""`rankone train` and `rankone sft`: a run from the command line to its last printed line."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from rl.cli.session_output import interruptible, say
from rl.launch.recipes import RECIPES
from rl.launch.run_paths import default_directory, newest_directory
from rl.launch.single import SingleRun, run_single
from rl.run.kind import Kind
from rl.settings.toml import load_config


def run_command(kind: Kind, config: Path, out: Path | None, override: Sequence[str], *, resume: bool) -> None:
    """Prepare and run what the configuration file says.

    Raises:
        ValueError: the user's mistake.
        typer.Exit: it was interrupted.
    """
    recipe, console = RECIPES[kind], Console()
    settings = load_config(config, override)
    name = recipe.run_name(settings)
    path = out or (newest_directory(name) if resume else default_directory(name))
    single = SingleRun(recipe, recipe.prepare(settings, config.parent), path, console, resume)
    with interruptible(console, f"rankone {kind} {path / 'config.toml'} --out {path} --resume"):
        result = run_single(single)
    console.print(result.summary, style="bold green", markup=False, highlight=False, soft_wrap=True)
    say(console, f"curve    {path / 'curve.png'}\nadapter  {path / 'adapters' / 'best'}")
