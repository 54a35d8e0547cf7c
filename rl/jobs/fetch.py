"""The results of a job, copied from the cluster's page to this machine."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl.jobs.page_client import PageClient
from rl.monitoring.curve import accuracy_figure
from rl.monitoring.figure_file import write_figure
from rl.monitoring.loss_curve import loss_figure
from rl.run.jsonl import read_metrics
from rl.run.kind import guess_kind
from rl.sweep.findings import write_findings
from rl.sweep.results import read_all


def fetch(page: PageClient, submission_id: str, out: Path) -> bool:
    """Write a job's metrics, their curve and the best adapter to `out`; return True if there is an adapter yet.

    Each run of a sweep gets a directory of its own, and the sweep's results stand beside them.

    Raises:
        ValueError: `out` is not empty, or the cluster's page knows no such run.
        ClusterError: the cluster does not answer.
    """
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; choose another --out")
    all_runs = page.runs()
    runs = [run for run in all_runs if submission_id in (run["submission_id"], run["id"])]
    if not runs:
        latest = ", ".join(dict.fromkeys(run["submission_id"] or run["id"] for run in all_runs[:5])) or "none"
        raise ValueError(f"the cluster's page knows no run {submission_id}; the latest it knows: {latest}")
    results = page.sweep_results(submission_id)
    if len(runs) == 1 and not results:
        return _fetch_run(page, runs[0], out)
    adapters = [_fetch_run(page, run, out / Path(run["run_path"]).name) for run in runs]
    if results:
        write_findings(read_all(results), submission_id, out)
    return any(adapters)


def _fetch_run(page: PageClient, run: Mapping[str, Any], out: Path) -> bool:
    """Write one run's files; return True if it has an adapter yet."""
    metrics, adapter = page.metrics(run["id"]), page.adapter_zip(run["id"])
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.jsonl").write_bytes(metrics)
    rows = list(read_metrics(out / "metrics.jsonl"))
    kind = run.get("kind") or guess_kind(rows)  # a run of an older rankone does not say its kind
    figure = loss_figure if kind == "sft" else accuracy_figure
    write_figure(figure(rows, run["id"]), out / "curve.png")
    if adapter:
        with zipfile.ZipFile(io.BytesIO(adapter)) as archive:
            archive.extractall(out / "adapter")
    return bool(adapter)
