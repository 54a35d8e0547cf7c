"""The files that a sweep leaves besides its runs: `sweep.json`, `conclusions.txt` and the pictures."""

from collections.abc import Sequence
from pathlib import Path

from lora.files.atomic_write import write_atomic
from rl.sweep.conclusions import conclusions
from rl.sweep.plots import draw_all
from rl.sweep.results import Result, write_all

RESULTS = "sweep.json"


def write_findings(results: Sequence[Result], title: str, path: Path) -> tuple[list[str], list[Path]]:
    """Write them all; the lines of the conclusions, and the other files."""
    write_all(results, path / RESULTS)
    lines = conclusions(results)
    write_atomic(path / "conclusions.txt", ("\n".join(lines) + "\n").encode())
    return lines, [path / RESULTS, *draw_all(results, title, path)]
