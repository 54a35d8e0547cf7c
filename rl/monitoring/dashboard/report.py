"""The page of one or several runs as a single file that needs nothing else: to keep, to mail, to publish."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl.monitoring.dashboard.page import page, plotly_script
from rl.monitoring.dashboard.run_info import run_info
from rl.monitoring.dashboard.server import detail, finite
from rl.monitoring.dashboard.store import RunRecord, RunSummary
from rl.monitoring.dashboard.types import Row
from rl.run.directory import RunDirectory
from rl.run.jsonl import is_metrics, is_row, read_samples, warn_of_others
from rl.settings.toml import load_config

NUM_SAMPLES = 24


def report(runs: Sequence[Path]) -> str:
    """Return one HTML document with the runs' data in it. Raises ValueError if a directory holds no run."""
    records = [_record(path, index) for index, path in enumerate(runs)]
    data = {
        "runs": [record.summary() for record, _ in records],
        "details": {record.id: detail(rows, record.samples) for record, rows in records},
    }
    return _document(json.dumps(finite(data), allow_nan=False))


def _record(path: Path, index: int) -> tuple[RunRecord, Sequence[Row]]:
    directory = RunDirectory.open(path)
    config = load_config(path / "config.toml", [])
    rows = directory.metrics()
    warn_of_others(directory.metrics_file, is_metrics)
    warn_of_others(directory.samples_file, is_row)
    samples = list(read_samples(directory.samples_file))[-NUM_SAMPLES:]
    finished = bool(rows) and rows[-1]["step"] >= config.num_steps
    heard = rows[-1].get("time", 0.0) if rows else 0.0
    name = f"{path.resolve().name}-{index}"
    state = "finished" if finished else "stopped"
    return RunRecord(
        name, run_info(config, path, directory.kind or "train"), RunSummary().add(rows), samples, state, heard
    ), rows


def _document(data: str) -> str:
    """Return the page with everything inside that it would ask its server for."""
    parts: dict[str, Any] = {
        '<link rel="stylesheet" href="/rankone/page.css">': f"<style>{page('page.css')}</style>",
        '<script src="/rankone/plotly.js"></script>': f"<script>{_inline(plotly_script())}</script>",
        '<script src="/rankone/page.js"></script>': (
            f'<script type="application/json" id="data">{data.replace("<", chr(92) + "u003c")}</script>'
            f"<script>{_inline(page('page.js'))}</script>"
        ),
    }
    document = page("page.html")
    for tag, content in parts.items():
        assert document.count(tag) == 1, tag
        document = document.replace(tag, content)
    return document


def _inline(script: str) -> str:
    """Escape end tags: a script inside HTML ends at the first one, wherever that stands."""
    return script.replace("</script", "<\\/script")
