"""Data sets of the `datasets` library, from local directories and files."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from rewards.types import Problem
from rl.config import Hub
from rl.data import absolute_paths, load_problems

datasets: Any = import_module("datasets")


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep its cache out of the user's, and the network out of the tests."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def rows(start: int, count: int) -> list[dict[str, Any]]:
    return [{"problem": f"{n} + 1?", "reply": f"so #### {n + 1}", "level": n} for n in range(start, start + count)]


def write(path: Path, start: int, count: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(start, count)))


def config(path: str, **others: Any) -> Hub:
    return Hub.model_validate(
        {"source": "hub", "path": path, "question": "problem", "answer": "reply", "answer_after": "####", **others}
    )


def test_a_local_directory_has_its_splits(tmp_path: Path) -> None:
    write(tmp_path / "sums" / "train.jsonl", 0, 5)
    write(tmp_path / "sums" / "test.jsonl", 10, 2)
    split = load_problems(config("sums"), 0, tmp_path)
    assert split.train[4] == Problem("hub/train/4", "4 + 1?", "5", {"level": 4, "solution": "so"})
    assert [p.id for p in split.held_out] == ["hub/test/0", "hub/test/1"]
    assert load_problems(absolute_paths(config("sums"), tmp_path), 0, Path()) == split
    with pytest.raises(ValueError, match="sums has no split 'validation'; its splits are 'train', 'test'"):
        load_problems(config("sums", held_out_split="validation"), 0, tmp_path)
    with pytest.raises(ValueError, match=r"sums \(train\), row 0: there is no column 'q'; the columns are 'problem'"):
        load_problems(config("sums", question="q"), 0, tmp_path)


def test_overlapping_splits_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "sums" / "train.jsonl", 0, 5)
    write(tmp_path / "sums" / "test.jsonl", 4, 2)
    with pytest.raises(ValueError, match=r'1 of 2 held-out .* hub/test/0 .* set data.held_out_split = "none"'):
        load_problems(config("sums"), 0, tmp_path)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_local_file_is_split(tmp_path: Path, suffix: str) -> None:
    made = datasets.Dataset.from_list(rows(0, 8))
    {".jsonl": made.to_json, ".csv": made.to_csv, ".parquet": made.to_parquet}[suffix](str(tmp_path / f"sums{suffix}"))
    split = load_problems(config(f"sums{suffix}", held_out_split=None, num_held_out=3), 0, tmp_path)
    assert (len(split.train), len(split.held_out)) == (5, 3)


def test_what_the_library_saved_is_loaded(tmp_path: Path) -> None:
    datasets.Dataset.from_list(rows(0, 8)).save_to_disk(str(tmp_path / "one"))
    both = {"train": datasets.Dataset.from_list(rows(0, 8)), "test": datasets.Dataset.from_list(rows(20, 3))}
    datasets.DatasetDict(both).save_to_disk(str(tmp_path / "both"))
    assert len(load_problems(config("one", held_out_split=None, num_held_out=3), 0, tmp_path).train) == 5
    assert len(load_problems(config("both"), 0, tmp_path).held_out) == 3


def test_a_failure_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no data")
    (tmp_path / "empty").mkdir()
    for path, reason in [
        ("nobody/no-such-data", "is no local path, and the hub fails: "),
        ("notes.txt", "cannot be loaded: a file must end in one of .json"),
        ("empty", "cannot be loaded: "),
    ]:
        with pytest.raises(ValueError, match=f"^data.path: '{path}' {reason}[^\n]+$"):
            load_problems(config(path), 0, tmp_path)
