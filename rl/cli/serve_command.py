"""`rankone serve`: a server from the command line."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from rl.cli.errors import one_line_errors
from rl.cli.session_output import interruptible, say

DEFAULT_OUT = Path("serve")


@one_line_errors
def serve_command(
    config: Annotated[
        Path | None, typer.Argument(help="The server's TOML file; without one, the defaults.", show_default=False)
    ] = None,
    model: Annotated[str | None, typer.Option(help="Base model: a built-in name, a directory, or a hub's id.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen at; 0 takes a free one.")] = None,
    out: Annotated[Path, typer.Option(help="Directory of the server's database and weights.")] = DEFAULT_OUT,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="RANKONE_API_KEY", help="The first user's key (tml-...); made at the first start otherwise."
        ),
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; repeatable.")
    ] = None,
) -> None:
    """Serve training and sampling to clients of Tinker's protocol and of OpenAI's."""
    from rl.launch.event_loop import run_to_end
    from rl.serve.config import load_serve_config
    from rl.serve.server import serve
    from rl.serve.service import Service

    console = Console()
    options: dict[str, Any] = {"model.name": model, "port": port}
    settings = load_serve_config(config, override or [], {k: v for k, v in options.items() if v is not None})

    def announce(service: Service, url: str, key: str) -> None:
        for line in ready_lines(service.facts.name, url, key):
            say(console, line)

    say(console, f"loading {settings.model.name}...")
    with interruptible(console, f"rankone serve{'' if config is None else f' {config}'} --out {out}"):
        run_to_end(serve(settings, out, announce, console, key=api_key))


@one_line_errors
def key_command(
    user: Annotated[str, typer.Argument(help="The user's name, as runs and metrics have it.")],
    config: Annotated[Path | None, typer.Argument(help="The server's TOML file.", show_default=False)] = None,
    out: Annotated[Path, typer.Option(help="The server's directory.")] = DEFAULT_OUT,
) -> None:
    """Make a key for another user of a server, who sees runs of its own alone; it is shown once."""
    from rl.serve.config import load_serve_config
    from rl.serve.server import make_key

    print(make_key(load_serve_config(config), out, user))


def ready_lines(model: str, url: str, key: str) -> list[str]:
    """Return what a user pastes to reach the server: the Tinker SDK, the OpenAI client, and curl."""
    return [
        f"serving {model} at {url}",
        f"key      {key}",
        f"tinker   TINKER_BASE_URL={url} TINKER_API_KEY={key} python your_loop.py",
        f"openai   OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY={key} python your_client.py",
        f"curl     curl -H 'X-API-Key: {key}' {url}/api/v1/get_server_capabilities",
        f"docs     {url}/docs    metrics  {url}/metrics",
    ]
