"""The `rankone` command. Bad input gives one clear line and exit status 2; nothing is lost."""

import asyncio
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rl.cli.cluster_commands import COMMANDS
from rl.cli.errors import one_line_errors
from rl.cli.reward_commands import grade_command, reward_try_command
from rl.cli.serve_command import key_command, serve_command
from rl.cli.sweep_command import sweep_command
from rl.cluster.interrupts import STATUS, exit_soon
from rollout.environment import OPENMP

for name, value in OPENMP.items():
    os.environ.setdefault(name, value)

app = typer.Typer(
    name="rankone",
    help="Reinforcement-learning fine-tuning of language models through rank-1 to rank-8 LoRA adapters.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
reward_app = typer.Typer(help="Develop reward functions without a model.", no_args_is_help=True)
app.add_typer(reward_app, name="reward")
app.command("grade")(grade_command)
app.command("sweep")(sweep_command)
app.command("serve")(serve_command)
app.command("key")(key_command)
reward_app.command("try")(reward_try_command)
for name, command in COMMANDS.items():
    app.command(name)(command)

Config = Annotated[Path, typer.Argument(help="The run's TOML file.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. lora.rank=4; repeatable."),
]
Out = Annotated[Path | None, typer.Option(help="The run's directory; by default a new one below runs/.")]
Server = Annotated[str | None, typer.Option(help="URL of a `rankone serve` that trains and samples for the run.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")]


class Which(StrEnum):
    """The choice among a run's adapters."""

    BEST = "best"
    LAST = "last"


def on_server(server: str | None, override: list[str] | None) -> list[str]:
    """Return the overrides, and that of the server if one is named."""
    return [*(override or []), *([] if server is None else [f"server={server}"])]


@app.command("train")
@one_line_errors
def train_command(
    config: Config, out: Out = None, resume: Resume = False, server: Server = None, override: Set = None
) -> None:
    """Train an adapter by reinforcement learning."""
    from rl.cli.run_command import run_command

    run_command("train", config, out, on_server(server, override), resume=resume)


@app.command("sft")
@one_line_errors
def sft_command(
    config: Config, out: Out = None, resume: Resume = False, server: Server = None, override: Set = None
) -> None:
    """Train an adapter on given completions: supervised fine-tuning."""
    from rl.cli.run_command import run_command

    run_command("sft", config, out, on_server(server, override), resume=resume)


@app.command("eval")
@one_line_errors
def eval_command(
    config: Config,
    adapter: Annotated[
        Path | None, typer.Option(help="A run's directory, or a PEFT adapter's; without one, the base model.")
    ] = None,
    which: Annotated[Which, typer.Option(help="Which adapter of a run.")] = Which.BEST,
    report: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write report.md, completions.jsonl and completions.html there."),
    ] = None,
    override: Set = None,
) -> None:
    """Measure an adapter's accuracy, or the base model's, on the held-out problems."""
    from rl.launch.evaluation import evaluate_adapter
    from rl.run.evaluation_report import write_report
    from rl.settings.toml import load_config

    loaded = load_config(config, override or [])
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)  # before minutes are spent on what goes there
    try:
        evaluation = evaluate_adapter(loaded, config.parent, adapter, which.value)
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(STATUS) from None
    print(f"held-out accuracy {evaluation.accuracy:.4f} on {len(evaluation.groups)} problems")
    for name, estimate in evaluation.estimates().items():
        print(f"{name:9} {estimate.value:.4f}  95 % interval {estimate.low:.4f} to {estimate.high:.4f}")
    if report is not None:
        policy = "the base model" if adapter is None else f"{adapter} ({which.value})"
        write_report(report, evaluation, loaded, policy)
        print(f"report    {report}")


@app.command("plan")
@one_line_errors
def plan_command(config: Config, override: Set = None) -> None:
    """Say what a run will cost and can learn, before anything is loaded."""
    from rl.cli.plan_text import plan_lines
    from rl.launch.plan import plan_run
    from rl.settings.toml import load_config

    planned = plan_run(load_config(config, override or []), config.parent)
    for what, how_much in plan_lines(planned):
        print(f"{what:12}{how_much}")
    for warning in planned.warnings():
        print(f"{'warning':12}{warning}")


@app.command("export")
@one_line_errors
def export_command(
    source: Annotated[Path, typer.Argument(help="A run's directory, or a PEFT adapter's.")],
    out: Annotated[Path, typer.Option(help="Where to write; must be new or empty.")],
    which: Annotated[Which, typer.Option(help="Which adapter of a run.")] = Which.BEST,
    merge: Annotated[bool, typer.Option("--merge", help="Write a whole model with the adapter in it.")] = False,
    model: Annotated[str | None, typer.Option(help="The base model, if it is not the one the adapter names.")] = None,
) -> None:
    """Write an adapter as a PEFT directory, or merged into its base model."""
    from lora.peft.files import unpack
    from rl.run.export import base_of, export_adapter, export_merged, find_adapter

    adapter = find_adapter(source, which.value)
    if merge:
        base = model or unpack(adapter.payload)[1].base_model
        if not base:
            raise ValueError(f"the adapter in {source} does not say what it is on; name its base model with --model")
        config = base_of(source, base)
        print(export_merged(adapter, config, out))
        if config.quantization is not None:
            print(
                f"its base was trained on in {config.quantization}: dequantised, its weights are in {config.dtype} now",
                file=sys.stderr,
            )
    else:
        print(export_adapter(adapter, out))


def main() -> None:
    """Run the console script."""
    try:
        app()
    except SystemExit as end:
        if end.code == STATUS:
            exit_soon()
        raise


if __name__ == "__main__":
    main()
