"""Mistakes of users and machines: the command ends soon, in one line, with exit status 1 or 2."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.zygote import Ended, Zygote

from lora.config import LoraConfig, ModelConfig
from lora.peft.description import Description
from lora.peft.files import pack, write_peft
from lora.types import Adapter
from rl.config import RunConfig
from rl.run.directory import RunDirectory

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "tiny.toml"


def sets(**settings: object) -> list[str]:
    return [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]


def in_one_line(ended: Ended, status: int, *expected: str) -> str:
    """See that it ended so, and return the line."""
    assert ended.status == status, ended.output
    assert "Traceback" not in ended.output
    lines = [line for line in ended.output.splitlines() if line.strip()]
    assert len(lines) == 1, ended.output
    for text in expected:
        assert text in lines[0]
    assert lines[0].startswith("rankone: ")
    return lines[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, make_adapter: Any) -> Path:
    """A run's directory as far as report and export need it."""
    directory = RunDirectory.create(tmp_path_factory.mktemp("runs") / "run", RunConfig())
    directory.metrics_file.write_text('{"step": 0, "time": 1.0, "eval/accuracy": 0.5}\n')
    model = ModelConfig(name="tiny-random", dtype="float32", max_length=64)
    write_peft(make_adapter(model, LoraConfig()), directory.adapters / "best")
    return directory.path


# --- where to write ---

PLACES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a file": (lambda home: _file(home / "it"), ""),
    "below a file": (lambda home: _file(home / "it") / "out", "Not a directory"),
    "a link to nothing": (lambda home: _link(home / "it", "nowhere"), ""),
    "a link to itself": (lambda home: _link(home / "it", "it"), ""),
    "a name that is too long": (lambda home: home / ("x" * 300), "name too long"),
    "a device": (lambda home: Path("/dev/null"), ""),
    "a fifo": (lambda home: _fifo(home / "it"), ""),
    "no place": (lambda home: Path("/proc/out"), "No such file"),
}
WRITERS: dict[str, Callable[[Path], Sequence[object]]] = {
    "train": lambda run: ["train", EXAMPLE, *sets(num_steps=0)],
    "sft": lambda run: ["sft", EXAMPLE, *sets(num_steps=0)],
    "sweep": lambda run: ["sweep", run.parent / "sweep.toml"],
    "export": lambda run: ["export", run],
    "merge": lambda run: ["export", run, "--merge"],
    "report": lambda run: ["report", run],
}


def _file(path: Path) -> Path:
    path.write_text("precious")
    return path


def _link(path: Path, target: str) -> Path:
    path.symlink_to(target)
    return path


def _fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _looks(home: Path) -> dict[Path, tuple[int, ...]]:
    """Return mode, owner, size and times of change of what is there; reading a link changes when it was read."""
    paths = (*home.iterdir(), Path("/dev/null"))
    return {
        path: (stat.st_mode, stat.st_ino, stat.st_nlink, stat.st_uid, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        for path in paths
        for stat in [path.lstat()]
    }


@pytest.mark.parametrize("writer", WRITERS)
def test_a_place_that_cannot_be_written_is_named_and_left_as_it_is(
    tmp_path: Path, zygote: Zygote, run: Path, writer: str
) -> None:
    (run.parent / "sweep.toml").write_text(f'base = "{EXAMPLE}"\n[axes]\nseed = [0]\n')
    for name, (make, reason) in PLACES.items():
        if (writer, name) == ("report", "a file"):
            continue  # which it writes anew
        home = tmp_path / name.replace(" ", "-")
        home.mkdir()
        out = make(home)
        before = _looks(home)
        ended = zygote.rankone(*WRITERS[writer](run), "--out", out, seconds=30)
        assert ended.status in (1, 2), (name, ended)
        in_one_line(ended, ended.status, str(home if out.is_relative_to(home) else out), reason)
        assert _looks(home) == before, name


def test_a_place_with_markup_in_its_name_is_as_good_as_any(tmp_path: Path, zygote: Zygote) -> None:
    out = tmp_path / "o[" / "b]"
    ended = zygote.rankone("sft", EXAMPLE, *sets(num_steps=0), "--out", out)
    assert ended.status == 0, ended.output
    assert f"curve    {out}/curve.png" in ended.output
    assert "Traceback" not in ended.output


# --- where it is started ---

STARTED: list[Sequence[object]] = [
    ["plan", EXAMPLE], ["train", EXAMPLE], ["sft", EXAMPLE], ["eval", EXAMPLE], ["sweep", EXAMPLE], ["submit", EXAMPLE],
    ["export", EXAMPLE, "--out", "x"], ["report", EXAMPLE], ["jobs"], ["grade", EXAMPLE],
    ["reward", "try", "math_answer", "--data", EXAMPLE],
]  # fmt: skip


def test_a_working_directory_that_is_gone_is_said(tmp_path: Path, zygote: Zygote) -> None:
    for arguments in STARTED:
        here = tmp_path / "here"
        here.mkdir()
        ended = zygote.rankone(*arguments, cwd=here, gone=True)
        in_one_line(ended, 2, "the directory that this was started in", "No such file")


# --- what it asks for ---

ASKED: dict[str, tuple[dict[str, object], str]] = {
    "a device that is not there": ({"learner.device": "cuda"}, 'learner.device = "cuda"'),
    "thousands of workers": ({"reward.workers": 3000}, "reward.workers = 3000 is more"),
    "a billion problems": ({"problems_per_step": 10**9}, "problems_per_step must be"),
    "more problems than there are": ({"problems_per_step": 50_000}, "there are 70 problems"),
    "a billion seconds": ({"reward.deadline_s": "1e9"}, "reward.deadline_s must be"),
    "a rank of a billion": ({"lora.rank": 10**9, "lora.allow_large_rank": "true"}, "lora.rank must be"),
    "bytes that are no text": ({"prompt.system": "\udc80"}, "not UTF-8 text"),
}


@pytest.mark.parametrize("asked", ASKED)
def test_what_no_machine_can_do_is_refused_before_anything_is_done(tmp_path: Path, zygote: Zygote, asked: str) -> None:
    settings, said = ASKED[asked]
    ended = zygote.rankone("train", EXAMPLE, *sets(num_steps=1, **settings), "--out", tmp_path / "out")
    in_one_line(ended, 2, said)


# --- its data ---


@pytest.mark.parametrize("column", ["question", "answer", "other"])
@pytest.mark.parametrize("command", ["train", "sft", "plan"])
def test_half_a_character_is_named_by_its_line(tmp_path: Path, zygote: Zygote, command: str, column: str) -> None:
    rows = [{"question": f"max 1 {i}", "answer": str(i), "other": "x"} for i in range(1, 9)]
    rows[3][column] += "\ud83d"
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = [] if command == "plan" else ["--out", tmp_path / "out"]
    ended = zygote.rankone(command, EXAMPLE, *sets(**{"data.train": data, "data.num_held_out": 2}), *out)
    in_one_line(ended, 2, f"{data}:4: half a character, \\ud83d")


def test_half_a_character_is_graded_by_nobody(tmp_path: Path, zygote: Zygote) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"answer": "3", "completion": "3"}\n{"answer": "3", "completion": "3 \\ud800"}\n')
    ended = zygote.rankone("grade", rows)
    assert ended.status == 2
    assert "line 2: half a character" in ended.output
    assert "1 graded (1 correct), 1 malformed" in ended.output
    in_one_line(zygote.rankone("reward", "try", "math_answer", "--data", rows), 2, "line 2: half a character")


# --- adapters ---


def test_an_adapter_that_says_of_no_model_what_it_is_on_cannot_be_merged(
    tmp_path: Path, zygote: Zygote, run: Path
) -> None:
    shutil.copytree(run / "adapters" / "best", tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": None}))
    ended = zygote.rankone("export", tmp_path / "adapter", "--merge", "--out", tmp_path / "out")
    in_one_line(ended, 2, "--model")


def test_another_programs_weights_are_refused_by_every_command(tmp_path: Path, zygote: Zygote) -> None:
    import safetensors.torch
    import torch

    whole = tmp_path / "policy.safetensors"
    for header in (None, {"adapter": "[1]"}):
        safetensors.torch.save_file({"model.weight": torch.ones(2)}, whole, header)
        for more in (["--out", tmp_path / "out"], ["--out", tmp_path / "out", "--merge"]):
            in_one_line(zygote.rankone("export", tmp_path, *more), 2, "is a damaged adapter")
        in_one_line(zygote.rankone("eval", EXAMPLE, "--adapter", tmp_path), 2, "is a damaged adapter")


def test_all_weights_of_another_model_are_merged_into_none(tmp_path: Path, zygote: Zygote) -> None:
    import torch

    write_peft(
        Adapter("run", 0, pack({"lm_head": torch.ones(2)}, Description("tiny-random", 0, 1.0, ()))), tmp_path / "all"
    )
    ended = zygote.rankone("export", tmp_path / "all", "--merge", "--out", tmp_path / "out")
    in_one_line(ended, 2, "of another model")
