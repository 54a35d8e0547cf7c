"""What is sent to a cluster: all that the run needs, and nothing else."""

import shutil
from pathlib import Path

import pytest
from clusters import ROOT

from rl.data import load_problems
from rl.job_files import write_job
from rl.jobs import MAX_BYTES, check_size
from rl.settings import load_config


def test_a_directory_of_data_goes_whole_whatever_its_ignore_file_says(tmp_path: Path) -> None:
    data = tmp_path / "here" / "gsm"
    data.mkdir(parents=True)
    (data / ".gitignore").write_text("*\n")
    line = '{"question": "How many are 2 and 3?", "answer": "2 + 3 = <<2+3=5>>5\\n#### 5"}\n'
    (data / "train.jsonl").write_text(line)
    (data / "test.jsonl").write_text(line.replace("2 and 3", "3 and 2"))
    (tmp_path / "here" / "run.toml").write_text('[data]\nsource = "gsm8k"\npath = "gsm"\n')
    (tmp_path / "here" / "secret.txt").write_text("stays")
    folder = tmp_path / "job"
    folder.mkdir()
    write_job(load_config(tmp_path / "here" / "run.toml"), tmp_path / "here", folder)
    shutil.rmtree(tmp_path / "here")
    sent = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    assert sent == ["config.toml", "data/gsm/test.jsonl", "data/gsm/train.jsonl"]
    split = load_problems(load_config(folder / "config.toml").data, 0, folder)
    assert [problem.answer for problem in (*split.train, *split.held_out)] == ["5", "5"]


def test_a_built_in_source_needs_no_data(tmp_path: Path) -> None:
    write_job(load_config(ROOT / "examples" / "addition.toml"), ROOT / "examples", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["config.toml"]


def test_what_is_too_large_is_named_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "small.txt").write_text("x")
    with (tmp_path / "large.jsonl").open("wb") as file:
        file.truncate(MAX_BYTES + 2**20)
    with pytest.raises(ValueError, match=r"large\.jsonl \(101 MiB\), small\.txt"):
        check_size(tmp_path)
