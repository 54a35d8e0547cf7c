"""The figures that are kept, of which commit and machine they are, and the table that docs/speed.md has of them."""

import json
import os
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.compare.table import Row, render

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results.json"
PAGE = ROOT / "docs" / "speed.md"
BEGIN, END = "<!-- figures: bench/speed.py --publish -->\n", "<!-- end of figures -->\n"
WRITTEN = ("bench/results.json", "docs/speed.md")
"""What a measurement changes."""
Results = dict[str, Any]


def load() -> Results:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def keep(name: str, rows: Sequence[Row], seconds: float) -> None:
    """Put a comparison's figures in place of those that are there."""
    results = load()
    results |= {row.key: round(row.value, 4) for row in rows if row.key}
    results.setdefault("rows", {})[name] = [asdict(row) | {"value": round(row.value, 4)} for row in rows]
    results.setdefault("measured", {})[name] = {
        "when": time.strftime("%Y-%m-%d %H:%M"),
        "took_s": round(seconds),
        "commit": commit(),
        "machine": machine(),
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


def commit() -> str:
    """What is checked out; with a plus sign if files differ from it."""
    return _git("rev-parse", "--short=10", "HEAD") + ("+" if changed() else "")


def changed() -> list[str]:
    """Files that differ from the commit, but for those that a measurement writes."""
    paths = [line[3:] for line in _git("status", "--porcelain").splitlines()]
    return [path for path in paths if path not in WRITTEN]


def machine() -> str:
    """Cores and their kind."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    special = " with AMX" if any(line.startswith("flags") and "amx_bf16" in line.split() for line in lines) else ""
    return f"{os.cpu_count()} cores of an {names[0] if names else 'unknown processor'}{special}"


def table(results: Results, comparisons: Iterable[str]) -> str:
    """The page's: where the figures were seen, and those that are shown.

    Raises:
        ValueError: comparisons were measured on different commits or machines, or not at all.
    """
    comparisons = list(comparisons)
    if missing := [name for name in comparisons if name not in results.get("measured", {})]:
        raise ValueError(f"never measured: {', '.join(missing)}")
    of = [results["measured"][name] for name in comparisons]
    for what in ("commit", "machine"):
        if len(found := {str(one[what]) for one in of}) > 1:
            raise ValueError(f"the figures are of more than one {what}: {', '.join(sorted(found))}; measure all again")
    days = sorted({one["when"].partition(" ")[0] for one in of})
    rows = [Row(**row) for name in comparisons for row in results["rows"][name]]
    seen = f"Commit `{of[0]['commit']}`, {of[0]['machine']}, no other work, {' to '.join(dict.fromkeys((days[0], days[-1])))}."
    return f"{seen}\n\n{render([row for row in rows if row.shown])}\n\n"


def publish(page: str, figures: str) -> str:
    """The page with those figures in place of the old."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + figures + END + rest.partition(END)[2]


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.rstrip()
