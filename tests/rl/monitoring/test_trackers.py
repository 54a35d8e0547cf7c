"""Runs that are also told to W&B and MLflow, read back through their own libraries."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.cluster import ROOT, rankone

from rl.monitoring.trackers import check_trackers
from rl.run.sinks import start_sinks

SMALL = ["num_steps=2", "problems_per_step=4", "evaluate.every=1", "evaluate.num_problems=8", "reward.workers=1"]
OFFLINE = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}


def run(tmp_path: Path, *more: str, **environment: str) -> Any:
    sets = [part for setting in (*SMALL, *more) for part in ("--set", setting)]
    resume = ["--resume"] if (tmp_path / "run").exists() else []
    return rankone(
        "train", ROOT / "examples" / "tiny.toml", "--out", tmp_path / "run", *sets, *resume, cwd=tmp_path, **environment
    )


def test_mlflow_has_every_step_of_a_resumed_run_in_one_run_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # the slim package has no other store without a server
    store = (tmp_path / "mlflow").as_uri()
    client = tracking.MlflowClient(store)
    for steps in (2, 4):
        ended = run(tmp_path, "mlflow=sums", f"num_steps={steps}", MLFLOW_TRACKING_URI=store)
        assert ended.returncode == 0, ended.stderr
    (found,) = client.search_runs([client.get_experiment_by_name("sums").experiment_id])
    assert found.info.status == "FINISHED"
    history = {point.step: point.value for point in client.get_metric_history(found.info.run_id, "eval/accuracy")}
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert history == {row["step"]: row["eval/accuracy"] for row in rows}


def test_wandb_has_the_accuracy_of_every_step(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    ended = run(tmp_path, "wandb=sums", **OFFLINE)
    assert ended.returncode == 0, ended.stderr
    (log,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    # An offline run is one log of records, which only the service makes a summary of.
    assert log.read_bytes().count(b"eval/accuracy") >= len(rows)
    assert b"sums" in log.read_bytes()


def test_a_tracker_that_cannot_start_does_not_stop_a_run(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    ended = run(tmp_path, "mlflow=sums", MLFLOW_TRACKING_URI="sqlite:////nowhere/at/all.db")
    assert ended.returncode == 0, ended.stderr
    assert "mlflow could not be started" in ended.stdout


def test_a_tracker_whose_library_is_missing_is_refused_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rl.settings.toml import load_config

    config = load_config(ROOT / "examples" / "tiny.toml", ["wandb=sums"])
    monkeypatch.setattr("rl.monitoring.trackers.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install wandb"):
        check_trackers(config)


def test_a_failed_start_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> Any:
        raise OSError("no disk")

    sink: Any = object()
    assert start_sinks({"one": fails, "other": lambda: sink}) == [sink]
    assert "one could not be started" in caplog.text
