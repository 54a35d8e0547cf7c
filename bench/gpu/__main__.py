"""Everything that is measured on a card, in one table: ``python -m bench.gpu [--shapes qwen3-0.6b qwen3-8b]``.

Each part is a process of its own, one after another: gradients against a CPU's, updates by length of row, sampling with
an adapter against without. The figures go to `bench/gpu/results.json` (or `--out`), with the card and the commit. Without
a card the shape is `tiny`, which shows that the script works and measures nothing. Nothing else should use the card.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.compare.child import ROOT
from bench.gpu import card
from bench.gpu.shapes import SHAPES, write_model

Figures = dict[str, Any]

ON_CARD = ("4096", "1024"), ("8192",), ("32768", "--tokens", "32768")
"""Lengths of rows: each tuple is a learner that is planned for the longest of its own."""
COLUMNS = {
    "update": ("model", "length", "tokens_per_s", "mfu", "peak_gib", "planned_gib", "checkpointing"),
    "rollout": ("model", "ours_tokens_per_s", "raw_tokens_per_s", "share_of_raw_vllm", "publish_to_first_token_s"),
    "numbers": ("logprob_difference", "gradient_difference"),
}


def main() -> None:
    """Measure, print the table, and keep the figures."""
    on_card = card.device() == "cuda"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shapes", nargs="+", choices=SHAPES, default=["qwen3-0.6b", "qwen3-8b"] if on_card else ["tiny"]
    )
    parser.add_argument("--parts", nargs="+", choices=COLUMNS, default=list(COLUMNS))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.json"))
    arguments = parser.parse_args()
    figures: dict[str, list[Figures]] = {part: [] for part in arguments.parts}
    with tempfile.TemporaryDirectory() as directory:
        if "numbers" in figures:
            figures["numbers"] += run("numbers")
        for shape in arguments.shapes:
            model = str(write_model(SHAPES[shape], Path(directory) / shape, card.device()))
            for part, found in measured(model, arguments.parts, on_card=on_card):
                figures[part].append(found | {"model": shape})
    arguments.out.write_text(json.dumps({"card": card.name(), "commit": _commit(), **figures}, indent=1) + "\n")
    print(table(figures))


def measured(model: str, parts: list[str], *, on_card: bool) -> Iterator[tuple[str, Figures]]:
    """Yield each figure of a model, with the part that it belongs to."""
    if "update" in parts:
        for lengths in ON_CARD if on_card else [("256", "--tokens", "512", "--repeats", "1")]:
            yield from (("update", found) for found in run("learner", model, *lengths) if "length" in found)
    if "rollout" in parts:
        less = () if on_card else ("--prompts", "2", "--group-size", "2", "--max-tokens", "8", "--repeats", "1")
        yield from (("rollout", found) for found in run("rollout", model, *less))


def run(module: str, *arguments: str) -> list[Figures]:
    """Return the lines of JSON that a part prints."""
    command = [sys.executable, "-m", f"bench.gpu.{module}", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def table(figures: dict[str, list[Figures]]) -> str:
    """Return a table in Markdown for each part."""
    return "\n\n".join("\n".join(_lines(COLUMNS[part], rows)) for part, rows in figures.items())


def _lines(columns: tuple[str, ...], rows: list[Figures]) -> Iterator[str]:
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield "| " + " | ".join(_cell(row.get(column)) for column in columns) + " |"


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    ).stdout.strip()


if __name__ == "__main__":
    main()
