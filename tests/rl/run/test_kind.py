"""A run's directory says its kind; what is damaged or from before is told by the metrics, and by one function."""

import json
from pathlib import Path

import pytest

from rl.config import RunConfig
from rl.run.directory import RunDirectory
from rl.run.kind import Kind, guess_kind, read_kind, write_kind


@pytest.mark.parametrize("kind", ["train", "sft"])
def test_a_kind_is_read_back_and_a_file_that_was_damaged_is_none(tmp_path: Path, kind: Kind) -> None:
    assert read_kind(tmp_path) is None
    write_kind(tmp_path, kind)
    assert read_kind(tmp_path) == kind
    whole = (tmp_path / "run.json").read_bytes()
    for damaged in (b"", whole[:-5], b"[]", b"[" * 30_000, b"\xff\xfe"):
        (tmp_path / "run.json").write_bytes(damaged)
        assert read_kind(tmp_path) is None


def test_metrics_tell_the_kind_of_an_old_run() -> None:
    assert guess_kind([]) is None
    assert guess_kind([{"step": 0, "eval/accuracy": 0.5}]) == "train"
    assert guess_kind([{"step": 0, "update/loss": 1.0}, {"step": 1, "eval/log_loss": 0.5}]) == "sft"


def test_a_run_that_has_no_kind_yet_takes_the_commands(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run", RunConfig(), "sft")
    (directory.path / "run.json").unlink()
    assert directory.kind is None
    directory.require_kind("train")
    assert directory.kind == "train"
    with pytest.raises(ValueError, match="holds a run of `rankone train`, which goes on with that command"):
        directory.require_kind("sft")


def test_the_kind_is_written_before_what_makes_the_directory_a_runs(tmp_path: Path) -> None:
    """So that a kill in between leaves no run whose kind would have to be guessed."""
    (tmp_path / "run" / "config.toml").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"config\.toml"):
        RunDirectory.create(tmp_path / "run", RunConfig())
    directory = RunDirectory.create(tmp_path / "other", RunConfig())
    made = {name: (directory.path / name).stat().st_mtime_ns for name in ("run.json", "config.toml")}
    assert made["run.json"] <= made["config.toml"]
    assert json.loads((directory.path / "run.json").read_text())["version"] == 1
