"""The work that a file asks of a cluster, and the files that are sent for it."""

import shutil
from pathlib import Path

import pytest
from helpers.cluster import ROOT

from lora.peft.files import write_peft
from rl.config import RunConfig
from rl.data import load_problems
from rl.jobs.spec import read_job_spec
from rl.run.export import untrained_adapter
from rl.settings.toml import load_config
from rl.sweep.points import load_sweep

EXAMPLES = ROOT / "examples"


def project(place: Path, sweep: str) -> Path:
    """A directory with the tiny run, two files of data and two rewards, and a sweep's file."""
    place.mkdir()
    shutil.copy(EXAMPLES / "tiny.toml", place / "tiny.toml")
    lines = (EXAMPLES / "tiny.jsonl").read_text().splitlines(keepends=True)
    (place / "tiny.jsonl").write_text("".join(lines))
    (place / "half.jsonl").write_text("".join(lines[::2]))
    for folder in ("a", "b"):
        (place / folder).mkdir()
        (place / folder / f"{folder}.py").write_text(
            f"def score(problem, completion):\n    return float('{folder}' in completion or '1' in completion)\n"
        )
    (place / "sweep.toml").write_text('base = "tiny.toml"\n' + sweep)
    return place


def sent(work_file: Path, folder: Path, *overrides: str, sft: bool = False) -> str:
    """Fill the folder; the command."""
    work = read_job_spec(work_file, overrides, sft=sft)
    folder.mkdir()
    work.write(folder)
    return f"{work.command} {work.file}"


def test_a_file_says_by_itself_whether_it_is_a_sweep(tmp_path: Path) -> None:
    assert sent(EXAMPLES / "tiny.toml", tmp_path / "train") == "train config.toml"
    assert sent(EXAMPLES / "sweep-tiny.toml", tmp_path / "sweep") == "sweep sweep.toml"
    assert sent(EXAMPLES / "sft-tiny.toml", tmp_path / "sft", sft=True) == "sft config.toml"
    with pytest.raises(ValueError, match="is a sweep"):
        read_job_spec(EXAMPLES / "sweep-tiny.toml", [], sft=True)


def test_what_is_sent_runs_on_the_cluster_whatever_its_file_says(tmp_path: Path) -> None:
    """A supervised run is in the driver's process otherwise, on a head that may have no GPU."""
    for name, sft in (("tiny", False), ("sft-tiny", True)):
        sent(EXAMPLES / f"{name}.toml", tmp_path / name, sft=sft)
        config = load_config(tmp_path / name / "config.toml")
        assert (config.runtime, "runtime" in config.model_fields_set) == ("ray", True)
    sent(EXAMPLES / "sweep-tiny.toml", tmp_path / "sweep")
    assert {point.config.runtime for point in load_sweep(tmp_path / "sweep" / "sweep.toml").points} == {"ray"}
    assert read_job_spec(EXAMPLES / "tiny.toml", [], sft=False).ignores_local_runtime
    assert not read_job_spec(EXAMPLES / "sft-tiny.toml", [], sft=True).ignores_local_runtime


def test_a_sweeps_runs_are_the_same_there(tmp_path: Path) -> None:
    sent(EXAMPLES / "sweep-tiny.toml", tmp_path / "job", "num_steps=7")
    here = load_sweep(EXAMPLES / "sweep-tiny.toml", ["num_steps=7"])
    there = load_sweep(tmp_path / "job" / "sweep.toml")
    assert (there.name, [point.name for point in there.points]) == (here.name, [point.name for point in here.points])
    for mine, yours in zip(here.points, there.points, strict=True):
        placed = {"data": yours.config.data, "runtime": "ray"}
        assert mine.config.model_copy(update=placed) == yours.config


def test_all_files_that_a_sweep_varies_go_along_once_and_are_found_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = project(
        tmp_path / "here",
        'axes."data.train" = ["tiny.jsonl", "half.jsonl"]\naxes."lora.init" = ["first", "second"]\n'
        'axes."reward.function" = ["a/a.py:score", "b/b.py:score"]\n',
    )
    monkeypatch.chdir(place)  # where reward files are looked for
    config = load_config(place / "tiny.toml")
    for name in ("first", "second"):
        write_peft(untrained_adapter(config.model, config.lora), place / name)
    sent(place / "sweep.toml", tmp_path / "job")
    there = load_sweep(tmp_path / "job" / "sweep.toml")
    counts = [len(load_sweep(place / "sweep.toml").points), len(there.points)]
    assert counts == [8, 8]
    monkeypatch.chdir(tmp_path / "job")
    shutil.rmtree(place)
    files = sorted(str(file.relative_to(tmp_path / "job")) for file in (tmp_path / "job").rglob("*.*"))
    assert files == [
        "_init/adapter_config.json", "_init/adapter_model.safetensors", "data/half.jsonl", "data/tiny.jsonl",
        "init/adapter_config.json", "init/adapter_model.safetensors", "reward_files/a.py", "reward_files/b.py", "sweep.toml",
    ]  # fmt: skip
    sizes = {sum(map(len, _split(point.config, tmp_path / "job"))) for point in there.points}
    assert len(sizes) == 2, "each file of data is its own"
    assert {point.config.reward.function for point in there.points} == {
        "reward_files/a.py:score", "reward_files/b.py:score",
    }  # fmt: skip
    assert {point.config.lora.init for point in there.points} == {"init", "_init"}


def test_two_reward_files_that_would_be_one_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = project(tmp_path / "here", 'axes."reward.function" = ["a/r.py:score", "b/r.py:score"]\n')
    monkeypatch.chdir(place)
    for folder in ("a", "b"):
        (place / folder / f"{folder}.py").rename(place / folder / "r.py")
    with pytest.raises(ValueError, match=r"would both be r\.py there"):
        sent(place / "sweep.toml", tmp_path / "job")


def _split(config: RunConfig, base: Path) -> tuple[list[object], list[object]]:
    split = load_problems(config.data, 0, base)
    return list(split.train), list(split.held_out)
