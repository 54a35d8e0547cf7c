"""The package that is sent to a cluster: all that the run needs, and nothing else."""

import shutil
import sys
from pathlib import Path

import pytest
from helpers.cluster import ROOT

from rl.config import Verifiers
from rl.data import load_problems
from rl.data.verifiers import find_python
from rl.episodes.environments.factory import load_environment
from rl.episodes.open import absolute_episodes
from rl.jobs.package import MAX_BYTES, check_size, write_job
from rl.settings.toml import load_config


def test_a_directory_of_data_goes_whole_whatever_its_ignore_file_says(tmp_path: Path) -> None:
    data = tmp_path / "here" / "gsm"
    data.mkdir(parents=True)
    (data / ".gitignore").write_text("*\n")
    (data / ".git").mkdir()
    (data / ".git" / "pack").write_text("stays")
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


def test_data_that_is_too_large_is_not_even_copied(tmp_path: Path) -> None:
    data = tmp_path / "gsm"
    data.mkdir()
    for name in ("train", "test"):
        with (data / f"{name}.jsonl").open("wb") as file:
            file.truncate(MAX_BYTES // 2 + 1)
    (tmp_path / "run.toml").write_text('[data]\nsource = "gsm8k"\npath = "gsm"\n')
    folder = tmp_path / "job"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"train\.jsonl \(50 MiB\), test\.jsonl \(50 MiB\)"):
        write_job(load_config(tmp_path / "run.toml"), tmp_path, folder)
    assert list(folder.iterdir()) == []


def test_a_model_beside_the_configuration_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    folder = tmp_path / "job"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    write_job(load_config(ROOT / "examples" / "tiny.toml", ["model.name=model"]), ROOT / "examples", folder)
    assert load_config(folder / "config.toml").model.name == str(tmp_path / "model")


def test_two_files_of_one_name_are_not_taken_for_each_other(tmp_path: Path) -> None:
    for folder, value in (("a", 1.0), ("b", 0.0)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "r.py").write_text(f"def score(problem, completion):\n    return {value}\n")
    terms = "".join(f'[[reward.terms]]\nfunction = "{tmp_path / folder}/r.py:score"\n' for folder in "ab")
    (tmp_path / "run.toml").write_text(terms)
    with pytest.raises(ValueError, match=r"would both be r\.py there; rename .*b/r\.py"):
        write_job(load_config(tmp_path / "run.toml"), tmp_path, tmp_path / "job")


def test_what_an_environment_imports_goes_along_though_it_was_loaded_before(tmp_path: Path) -> None:
    """As when a run is prepared, which is before it is sent."""
    (tmp_path / "beside_the_game.py").write_text("WORD = 'higher'\n")
    (tmp_path / "game.py").write_text(
        "import beside_the_game\nclass Game:\n    def __init__(self, problem): pass\n    def step(self, messages): pass\n"
    )
    (tmp_path / "run.toml").write_text(
        f'[episodes]\nenvironment = "{tmp_path}/game.py:Game"\n[sampling]\nmax_tokens = 64\n[model]\nmax_length = 4096\n'
    )
    load_environment(f"{tmp_path}/game.py:Game")
    folder = tmp_path / "job"
    folder.mkdir()
    write_job(load_config(tmp_path / "run.toml"), tmp_path, folder)
    assert sorted(file.name for file in (folder / "reward_files").iterdir()) == ["beside_the_game.py", "game.py"]


def test_an_environment_goes_along_and_is_found_beside_the_configuration(tmp_path: Path) -> None:
    write_job(load_config(ROOT / "examples" / "guess.toml"), ROOT / "examples", tmp_path)
    sent = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file())
    assert sent == ["config.toml", "data/guess.jsonl", "reward_files/guess.py"]
    there = absolute_episodes(load_config(tmp_path / "config.toml").episodes, tmp_path)
    assert there.environment == f"{tmp_path}/reward_files/guess.py:Guess"


@pytest.mark.parametrize("several", [False, True])
def test_a_taskset_of_verifiers_goes_along_and_its_python_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    python = tmp_path / ".venv-verifiers" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (tmp_path / "games.py").write_text("tasks = 1")
    source, episodes = (
        'source = "verifiers"\ntaskset = "games.py"',
        'environment = "verifiers:games.py"\nmax_tokens = 512',
    )
    text = f"[data]\n{source}\n[episodes]\n{episodes}"
    if several:
        text = f'[[data]]\nsource = "addition"\n[[data]]\n{source}\n[data.episodes]\n{episodes}'
    (tmp_path / "run.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    pythons: list[str | None] = []
    for variable in ("", "/usr/bin/python3"):
        monkeypatch.setenv("VERIFIERS_PYTHON", variable)
        folder = tmp_path / f"job{variable != ''}"
        folder.mkdir()
        write_job(load_config(tmp_path / "run.toml"), tmp_path, folder)
        assert (folder / "data" / "games.py").read_text() == "tasks = 1"
        sent = load_config(folder / "config.toml")
        of_verifiers = sent.data_of("verifiers" if several else "")
        assert isinstance(of_verifiers, Verifiers)
        assert (of_verifiers.taskset, sent.episodes_of("verifiers").taskset) == ("data/games.py", "data/games.py")
        pythons.append(of_verifiers.python)
    assert pythons == [str(python), None], "another machine may have its own where VERIFIERS_PYTHON says"
    with pytest.raises(ValueError, match=r"no program '/no/bin/python' on .*: make one by `python -m venv /no`"):
        find_python("/no/bin/python", tmp_path)
