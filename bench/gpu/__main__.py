"""Everything that is measured on a card, in one table: ``python -m bench.gpu [--shapes qwen3-0.6b qwen3-8b]``.

Gradients against a CPU's, updates by length of row, sampling with an adapter against without (and vLLM's sleep mode),
an adapter's products alone, and, where TRL is installed, whole steps against TRL's. Each is a process; as many as the
card has memory for load at the same time, and measure one after another once all of them are ready. The figures go to
`bench/gpu/results.json` (or `--out`), with the card and the commit. Without a card the shape is `tiny`, which shows that
the script works and measures nothing. Nothing else should use the card.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.compare.child import ROOT
from bench.gpu import card
from bench.gpu.shapes import SHAPES, write_model

Figures = dict[str, Any]

LENGTHS = ("4096", "1024"), ("8192",), ("32768", "--tokens", "32768")
"""Of rows: each tuple is a learner that is planned for the longest of its own."""
COLUMNS = {
    "numbers": ("case", "logprob_difference", "gradient_difference", "gradient_difference_cpu"),
    "update": ("model", "length", "tokens_per_s", "mfu", "peak_gib", "planned_gib", "checkpointing"),
    "rollout": (
        "model", "kind", "tokens_per_s", "base_tokens_per_s", "share_of_base", "publish_to_first_token_s", "sleep_s",
        "wake_s",
    ),
    "adapter": ("layer", "rows", "base_us", "vllm_us", "ours_us", "vllm_error", "ours_error"),
    "step": ("model", "ours_step_s", "trl_step_s", "times_trl"),
}  # fmt: skip
CACHE_GIB = 10.5
"""Of each engine."""
ENGINE_GIB, LEARNER_GIB = 4, 40
"""Of an engine beside weights and cache, and of a learner's largest activations and CUDA's own."""


@dataclass(frozen=True, slots=True)
class Part:
    """A process that measures: its figures' name, its module and arguments, and the memory that it needs."""

    name: str
    arguments: Sequence[str]
    gib: float = 0.0


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
    with tempfile.TemporaryDirectory(dir="/dev/shm" if on_card else None) as directory:
        models = [write_model(SHAPES[shape], Path(directory) / shape, card.device()) for shape in arguments.shapes]
        parts = (card_parts if on_card else cpu_parts)(models)
        for wave in waves([part for part in parts if part.name in figures], card.total_gib()):
            for name, found in measured(wave):
                figures[name].append(found | ({"model": Path(found["model"]).name} if "model" in found else {}))
                _keep(arguments.out, figures)
    print(table(figures))


def card_parts(models: Sequence[Path]) -> Iterator[Part]:
    """Yield what is measured on a card."""
    yield Part("numbers", ["numbers"], 2)
    yield Part("adapter", ["adapter"], 2)
    for model in models:
        weights = sum(file.stat().st_size for file in model.glob("*.safetensors")) / 2**30
        for kind, more in {"ours": ("--sleep",), "fused": (), "raw": ()}.items():
            engines = ["rollout", str(model), kind, *more, "--kv-cache-gib", str(CACHE_GIB)]
            yield Part("rollout", engines, 2 * (weights + CACHE_GIB + ENGINE_GIB))
        for lengths in LENGTHS:
            yield Part("update", ["learner", str(model), *lengths], weights + LEARNER_GIB)
        if importlib.util.find_spec("trl"):
            yield Part("step", ["step", str(model)], card.total_gib())


def cpu_parts(models: Sequence[Path]) -> Iterator[Part]:
    """Yield the smallest work that fills every column."""
    yield Part("numbers", ["numbers"])
    for model in map(str, models):
        yield Part("update", ["learner", model, "256", "--tokens", "512", "--repeats", "1"])
        less = ("--prompts", "2", "--group-size", "2", "--max-tokens", "8", "--repeats", "1", "--kv-cache-gib", "0.5")
        yield Part("rollout", ["rollout", model, "ours", *less])


def waves(parts: Sequence[Part], gib: float) -> Iterator[list[Part]]:
    """Divide the parts, in their order, into those that a card of so many GiB holds at the same time."""
    wave: list[Part] = []
    for part in parts:
        if wave and sum(other.gib for other in wave) + part.gib > 0.9 * gib:
            yield wave
            wave = []
        wave.append(part)
    if wave:
        yield wave


def measured(wave: Sequence[Part]) -> Iterator[tuple[str, Figures]]:
    """Run parts beside each other; yield their figures. Whoever measures waits until all of them are ready."""
    with card.turn():
        running = [(part, start(part)) for part in wave]
        for _, process in running:
            _answer(process)
    for part, process in running:
        while (found := _answer(process)) is not None:
            yield part.name, found
        if process.wait() != 0:
            print(f"{' '.join(part.arguments)} ended with exit status {process.returncode}", file=sys.stderr)


def start(part: Part) -> "subprocess.Popen[str]":
    """Start a part's process."""
    module, *arguments = part.arguments
    return subprocess.Popen(
        [sys.executable, "-m", f"bench.gpu.{module}", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def _answer(process: "subprocess.Popen[str]") -> Figures | None:
    """Return the next line of JSON that it prints; None when it has ended."""
    assert process.stdout is not None
    return next((json.loads(line) for line in process.stdout if line.startswith("{")), None)


def _keep(out: Path, figures: dict[str, list[Figures]]) -> None:
    out.write_text(json.dumps({"card": card.name(), "commit": _commit(), **figures}, indent=1) + "\n")


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
