"""The server in a terminal: a table of the models that are there, as they are now."""

import asyncio
import time

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rl.serve.operations.models import Model
from rl.serve.service import Service

REFRESH_S = 1.0
MOST_ROWS = 30


async def show(service: Service, console: Console) -> None:
    """Show the table until cancelled, where somebody sees it."""
    if not console.is_terminal:
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(render(service), refresh=True)
            await asyncio.sleep(REFRESH_S)


def render(service: Service) -> Group:
    """Return the head line and the table."""
    models = sorted(service.models.all(), key=lambda model: model.policy.used, reverse=True)
    table = Table("user", "run", "rank", "steps", "loss", "gap, nats", "waiting", "idle", box=None, header_style="bold")
    for model in models[:MOST_ROWS]:
        table.add_row(*map(Text, _cells(service, model)))
    counts = service.meter.totals()
    up = time.monotonic() - service.started
    head = (
        f"up {up / 60:.0f} min, {len(models)} models, {len(service.futures)} requests under way, "
        f"{counts.get('trained', 0):,} tokens trained, {counts.get('sampled', 0):,} sampled"
    )
    return Group(Text(head), table)


def _cells(service: Service, model: Model) -> tuple[str, ...]:
    seen = service.meter.seen(model.id)
    idle = asyncio.get_running_loop().time() - model.policy.used
    place = "" if model.policy.on_learner else " (away)"
    return (
        model.user,
        f"{model.id[:8]}...{model.id[36:]}{place}",
        str(model.run.rank),
        str(model.policy.steps),
        f"{seen.loss:.3f}",
        f"{seen.gap:.5f}",
        str(model.turns.waiting),
        f"{idle:.0f} s",
    )
