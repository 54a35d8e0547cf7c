"""Names are shown as users wrote them: no markup of rich's in them means anything."""

import ast
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from rl.cli.cluster_commands import jobs_table
from rl.jobs.client import Job
from rl.jobs.watch import view
from rl.monitoring.loss_progress import LossTable
from rl.monitoring.plain_text import plain
from rl.monitoring.progress import LiveDisplay
from rl.run.best_metric import ACCURACY
from rl.sweep.display import Board

ROOT = Path(__file__).parents[3]
NAME = "[/b] [bold]\x1b[2J"
SHOWN = "[/b] [bold]\N{REPLACEMENT CHARACTER}[2J"
RUN = {
    "id": NAME, "state": "of a newer version", "curve": [], "best": None, "loss": [], "least": None, "step": 1,
    "num_steps": 2, "settings": {"rank": 1, "lr": 1e-3, "model": "[/model]"},
}  # fmt: skip


def shown(renderable: RenderableType) -> str:
    text = io.StringIO()
    Console(file=text, width=200).print(renderable)
    return text.getvalue()


def displayed(make: Any) -> str:
    text = io.StringIO()
    display = make(Console(file=text, width=200, force_terminal=True, no_color=True))
    display.close("finished")
    return text.getvalue()


def board(console: Console) -> Any:
    board = Board(console, NAME, {NAME: 2}, ACCURACY)
    board.on_start(NAME, [])
    board.__enter__()
    board.close = lambda _: board.__exit__()  # type: ignore[attr-defined]
    return board


@pytest.mark.parametrize(
    "show",
    [
        lambda: shown(jobs_table([Job("id", NAME, "RUNNING", None, None, "", None)])),
        lambda: shown(view([RUN], 200)),
        lambda: shown(plain(NAME)),
        lambda: displayed(lambda console: LiveDisplay(console, NAME, 2, 0)),
        lambda: displayed(lambda console: LossTable(console, NAME, 2)),
        lambda: displayed(board),
    ],
    ids=["jobs", "watch", "plain", "train", "sft", "sweep"],
)
def test_a_name_is_shown_as_it_is(show: Any) -> None:
    assert SHOWN in show()


def test_losses_that_are_no_numbers_are_shown_as_gaps() -> None:
    table = LossTable(Console(file=io.StringIO()), "name", 2, [{"eval/log_loss": x} for x in (1.0, float("nan"), 0.5)])
    table.close("finished")
    assert "█ ▅" in shown(table._render())  # pyright: ignore[reportPrivateUsage]
    zero = LossTable(Console(file=io.StringIO()), "name", 2, [{"eval/log_loss": 0.0}])
    zero.close("finished")
    assert "0.0000" in shown(zero._render())  # pyright: ignore[reportPrivateUsage]


def prints() -> Iterator[tuple[str, ast.Call]]:
    """Every call of a console's `print` in the program."""
    for package in ("rl", "rewards", "rollout", "lora"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "print":
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", node


def test_no_console_reads_markup_in_what_it_prints() -> None:
    """Paths and names come from users: `--out "o[/b]"` once ended a run that was done in a traceback."""
    found = list(prints())
    assert len(found) > 8
    for where, call in found:
        markup = [keyword.value for keyword in call.keywords if keyword.arg == "markup"]
        assert [isinstance(value, ast.Constant) and value.value for value in markup] == [False], where
