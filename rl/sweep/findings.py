"""What a sweep leaves besides its runs: `sweep.json`, `conclusions.txt` and the pictures."""

from collections.abc import Sequence
from pathlib import Path

from rl.sweep.pictures import draw_all
from rl.sweep.results import Result, write_all
from rl.sweep.words import conclusions

RESULTS = "sweep.json"


def write_findings(results: Sequence[Result], title: str, path: Path) -> tuple[list[str], list[Path]]:
    """Write them all; the lines of the conclusions, and the other files."""
    write_all(results, path / RESULTS)
    said = conclusions(results)
    (path / "conclusions.txt").write_text("\n".join(said) + "\n", encoding="utf-8")
    return said, [path / RESULTS, *draw_all(results, title, path)]
