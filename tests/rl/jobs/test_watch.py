"""The view of a cluster's runs in a terminal."""

from typing import Any

from rich.console import Console

from rl.jobs.watch import CURVE_WIDTH, MOST_RUNS, view
from rl.monitoring.progress import sparkline


def run(name: str, accuracies: list[float]) -> dict[str, Any]:
    settings = {"rank": 8, "lr": 3e-3, "model": "smollm2-135m"}
    curve = [[step, 0.0, accuracy] for step, accuracy in enumerate(accuracies)]
    best = max(accuracies, default=None)
    return {
        "id": name, "state": "running", "curve": curve, "best": best, "loss": [], "least": None, "step": 9, "num_steps": 60, "settings": settings
    }  # fmt: skip


def shown(runs: list[dict[str, Any]]) -> str:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(view(runs))
    return captured.get()


def test_a_narrow_terminal_shows_the_whole_id_and_the_end_of_the_curve() -> None:
    accuracies = [step / 40 for step in range(40)]
    text = shown([run("addition-rank-1-20261125-033418-7609", accuracies)])
    assert "addition-rank-1-20261125-033418-7609" in text
    assert sparkline(accuracies, CURVE_WIDTH) in text


def test_there_is_a_view_before_the_first_run_before_the_first_evaluation_and_of_very_many() -> None:
    assert "no run has reported yet" in shown([])
    assert "9/60" in shown([run("new", [])])
    assert "and 180 older runs" in shown([run(f"r{i}", [0.5]) for i in range(180 + MOST_RUNS)])
