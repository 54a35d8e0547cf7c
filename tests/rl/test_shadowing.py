"""rankone finds its own packages though a user's files have their names, and says so where it cannot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cluster import ROOT

from rewards.functions.find import find_function
from rl.jobs.package import write_job
from rl.settings.toml import load_config
from rl.shadowing import PARTS, raise_if_shadowed, shadowing_file

REWARD = "def digits(problem, completion):\n    return sum(letter.isdigit() for letter in completion) / 99\n"
EXAMPLE = ROOT / "examples" / "tiny.toml"


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with files of our packages' names in it."""
    for name in ("rewards", "lora", "rollout"):
        (tmp_path / f"{name}.py").write_text(REWARD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rankone(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """As somebody runs it whose PYTHONPATH and working directory both come first."""
    environment = os.environ | {"PYTHONPATH": f"{cwd}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "rl.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=240)


def test_files_of_our_packages_names_are_not_taken_for_them(beside: Path) -> None:
    data = ROOT / "examples" / "tiny.jsonl"
    tried = rankone("reward", "try", "rewards.py:digits", "--data", data, "--limit", "2", cwd=beside)
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert "right, long" in tried.stdout


def test_what_rays_processes_would_find_first_is_named(beside: Path) -> None:
    assert shadowing_file("rewards") == beside / "rewards.py"
    with pytest.raises(ValueError, match=rf"{beside}/lora.py hides rankone's own package 'lora' .* rename it"):
        raise_if_shadowed()
    for name in ("lora", "rollout"):
        (beside / f"{name}.py").unlink()
    raise_if_shadowed()  # a `rewards.py` is no harm
    (beside / "rl").mkdir()
    (beside / "rl" / "__init__.py").touch()
    with pytest.raises(ValueError, match=r"rl/__init__.py hides"):
        raise_if_shadowed()


@pytest.mark.parametrize("library", ["torch.py", "vllm/__init__.py"])
def test_a_file_in_the_place_of_a_library_is_named(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vllm").mkdir()  # without an `__init__.py` it hides nothing
    raise_if_shadowed()
    (tmp_path / library).touch()
    with pytest.raises(ValueError, match=rf"{library} hides the library '(torch|vllm)' .* from another directory"):
        raise_if_shadowed()


@pytest.mark.parametrize("room", ["rollout", "lora"])
def test_a_run_is_not_started_from_a_room_whose_neighbours_have_names_of_libraries(
    room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT / room)
    with pytest.raises(ValueError, match=r"/__init__.py hides the library '(ray|peft)'"):
        raise_if_shadowed()


def test_another_copy_of_rankone_is_no_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert [shadowing_file(name) for name in PARTS] == [None] * 4
    raise_if_shadowed()


@pytest.mark.parametrize("name", ["rewards:digits", "rewards.mine:digits", "lora:digits"])
def test_a_function_that_is_looked_for_in_our_own_package_is_said_to_be(beside: Path, name: str) -> None:
    package = name.partition(":")[0].partition(".")[0]
    with pytest.raises(
        ValueError, match=rf"rankone's own package '{package}', not in {beside}/{package}.py: name its file"
    ):
        find_function(name)


def test_a_jobs_folder_holds_no_file_that_python_would_take_for_another(
    beside: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Ray puts it before everything else on the path of all of a job's processes."""
    (beside / "random.py").write_text(f"import helper\n{REWARD}")
    (beside / "helper.py").write_text("")
    for function in ("rewards.py:digits", "random.py:digits"):
        folder = tmp_path_factory.mktemp("job")
        write_job(load_config(EXAMPLE, [f"reward.function={beside / function}"]), EXAMPLE.parent, folder)
        assert list(folder.glob("*.py")) == []
        sent = load_config(folder / "config.toml").reward.function
        assert sent == f"reward_files/{function}"
        run = f"from rewards.functions.find import find_function; print(find_function({sent!r})[0].__name__)"
        found = subprocess.run(
            [sys.executable, "-c", f"import rl; {run}"], cwd=folder, env=os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert found.stdout == "digits\n", found.stderr
