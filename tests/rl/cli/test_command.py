"""The `rankone` command as a user runs it: a run's files, its ways on, and one line for every mistake."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from transformers import AutoModelForCausalLM, GPT2Config
from typer.testing import CliRunner

from lora.base.tiny_model import tiny_tokenizer
from lora.config import ModelConfig
from lora.load import load_adapted
from lora.peft.files import read_peft, unpack
from rl.cli.app import app
from rl.run.export import lora_config
from rl.settings.toml import load_config

ROOT = Path(__file__).parents[3]
EXAMPLE = str(ROOT / "examples" / "tiny.toml")
SMALL = {
    "problems_per_step": "8", "sampling.group_size": "4", "evaluate.every": "2", "evaluate.num_problems": "8",
    "num_steps": "3", "reward.workers": "1",
}  # fmt: skip


def sets(**settings: str) -> list[str]:
    return [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]


REWARD = """
def digits(problem, completion):
    return sum(character.isdigit() for character in completion) / max(1, len(completion))
"""


def rankone(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def train(out: Path, *more: object, **settings: str) -> Result:
    return rankone("train", EXAMPLE, "--out", out, *sets(**SMALL | settings), *more)


def steps(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A run of three steps, of which each has something to learn from, and what it printed."""
    home = tmp_path_factory.mktemp("runs")
    (home / "reward.py").write_text(REWARD)
    return home / "run", train(home / "run", **{"reward.function": f"{home}/reward.py:digits"})


def test_a_run_leaves_everything_it_promises(finished: tuple[Path, Result]) -> None:
    out, result = finished
    assert result.exit_code == 0, result.output
    assert steps(out) == [0, 1, 2, 3]
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in metrics if "eval/accuracy" in row] == [0, 2, 3]
    assert {
        "reward/mean", "reward/outcome/wrong", "group/no_signal_fraction", "completion/length_mean", "update/loss",
        "update/grad_norm", "update/kl_sampler_learner", "update/clip_fraction", "update/entropy", "policy/version_lag",
        "time/sample_s", "time/grade_s", "time/update_s", "time/publish_s", "throughput/sample_tokens_per_s",
    } <= {name for row in metrics for name in row}  # fmt: skip
    samples = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert {row["split"] for row in samples} == {"train", "held_out"}
    kept = {"best", "step-000001", "step-000002", "step-000003"}
    assert {path.name for path in (out / "checkpoints").iterdir()} == kept
    assert any((out / "tensorboard").iterdir())
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    for which in ("best", "last"):
        assert unpack(read_peft(out / "adapters" / which).payload)[1].base_model == "tiny-random"
    assert "rank 8, 32,768 trained parameters, 3 steps" in result.output
    assert str(out / "adapters" / "best") in result.output.replace("\n", "")


def test_the_configuration_beside_a_run_is_the_runs_from_wherever_it_is_read(
    finished: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = finished
    monkeypatch.chdir(tmp_path)
    config = load_config(out / "config.toml", [])
    assert (config.num_steps, config.problems_per_step, config.name) == (3, 8, "tiny")
    assert rankone("train", out / "config.toml", "--out", tmp_path / "again", "--set", "num_steps=1").exit_code == 0


def test_a_run_is_resumed_from_where_it_was(finished: tuple[Path, Result], tmp_path: Path) -> None:
    short, _ = finished
    long, pieces = tmp_path / "long", tmp_path / "pieces"
    reward = {"reward.function": f"{short.parent}/reward.py:digits", "num_steps": "5"}
    assert train(long, **reward).exit_code == 0
    shutil.copytree(short, pieces)
    resumed = train(pieces, "--resume", **reward)
    assert resumed.exit_code == 0, resumed.output
    assert steps(pieces) == steps(long) == [0, 1, 2, 3, 4, 5]
    one, other, before = (unpack(read_peft(out / "adapters" / "last").payload)[0] for out in (long, pieces, short))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(not torch.equal(one[name], before[name]) for name in one)


def test_evaluating_a_finished_run_gives_the_accuracy_in_its_curve(finished: tuple[Path, Result]) -> None:
    out, _ = finished
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["eval/accuracy"]
    for adapter in (["--adapter", out, "--which", "last"], ["--adapter", out / "adapters" / "last"]):
        result = rankone("eval", out / "config.toml", *adapter)
        assert result.exit_code == 0, result.output
        assert f"held-out accuracy {last:.4f} on 8 problems" in result.output


def test_evaluating_no_adapter_gives_the_accuracy_that_the_curve_begins_with(finished: tuple[Path, Result]) -> None:
    out, _ = finished
    first = json.loads((out / "metrics.jsonl").read_text().splitlines()[0])["eval/accuracy"]
    result = rankone("eval", out / "config.toml")
    assert f"held-out accuracy {first:.4f} on 8 problems" in result.output


def test_an_exported_and_a_merged_adapter_are_the_runs_policy(finished: tuple[Path, Result], tmp_path: Path) -> None:
    out, _ = finished
    assert rankone("export", out, "--which", "last", "--out", tmp_path / "adapter").exit_code == 0
    adapter = read_peft(tmp_path / "adapter")
    merged = rankone("export", out, "--which", "last", "--merge", "--out", tmp_path / "merged")
    assert merged.exit_code == 0, merged.output
    assert str(tmp_path / "merged") in merged.output.replace("\n", "")
    whole: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    adapted = load_adapted(ModelConfig(name="tiny-random", dtype="float32"), lora_config(adapter))
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        base = adapted.model(ids).logits
        adapted.layers.load(unpack(adapter.payload)[0])
        torch.testing.assert_close(whole(ids).logits, adapted.model(ids).logits, rtol=1e-4, atol=1e-4)
        assert not torch.equal(base, adapted.model(ids).logits)


# --- mistakes ---


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def toml(tmp_path: Path, lines: str) -> list[str]:
    """A small run with data of its own."""
    data = write(tmp_path / "data.jsonl", lines)
    settings = {"data.source": "jsonl", "data.train": str(data), "data.num_held_out": "2"}
    return ["train", EXAMPLE, *sets(**SMALL | settings)]


def without_targets(tmp_path: Path) -> list[str]:
    config = GPT2Config(vocab_size=64, n_positions=64, n_embd=32, n_layer=1, n_head=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(str(tmp_path / "gpt2"))
    tiny_tokenizer().save_pretrained(str(tmp_path / "gpt2"))
    return ["train", EXAMPLE, *sets(**SMALL | {"model.name": str(tmp_path / "gpt2")})]


def row(question: str, answer: str) -> str:
    return json.dumps({"question": question, "answer": answer}) + "\n"


GOOD = "".join(row(f"max 1 {i}", str(i)) for i in range(1, 9))
FEW_TOKENS = "".join(row(f"{'<pad>' * 14} {i}", "1") for i in range(70))
"""Longer questions than the one in `MANY_TOKENS`, in a fifth of its tokens."""
MANY_TOKENS = row("max " * 16, "1")
MISTAKES: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "an unknown key": (lambda _: ["train", EXAMPLE, *sets(**{"learner.lrr": "1"})], "lr"),
    "an unknown table": (lambda t: ["train", str(write(t / "c.toml", "[lerner]\nlr = 1"))], "learner"),
    "a file that is no TOML": (lambda t: ["train", str(write(t / "c.toml", "[learner"))], "c.toml"),
    "rank 9": (lambda _: ["train", EXAMPLE, *sets(**{"lora.rank": "9"})], "allow_large_rank"),
    "rank 0": (lambda _: ["train", EXAMPLE, *sets(**{"lora.rank": "0"})], "lora.rank"),
    "no configuration": (lambda t: ["train", str(t / "missing.toml")], "missing.toml"),
    "no data file": (lambda _: ["train", EXAMPLE, *sets(**{"data.train": "missing.jsonl"})], "missing.jsonl"),
    "a malformed line": (lambda t: toml(t, GOOD + '{"question": \n' + GOOD), "data.jsonl:9"),
    "an empty data set": (lambda t: toml(t, ""), "data.jsonl"),
    "answers that are no mathematics": (
        lambda t: toml(t, "".join(row(f"q {i}", "\\frac{" * 3) for i in range(9))),
        "cannot read 9 of 9 answers, such as problem jsonl/train/1",
    ),
    "a short question of many tokens": (
        lambda t: toml(t, FEW_TOKENS + MANY_TOKENS + FEW_TOKENS),
        "problem jsonl/train/71 has a prompt of ",
    ),
    "the same, fine-tuned on": (
        lambda t: ["sft", *toml(t, FEW_TOKENS + MANY_TOKENS + FEW_TOKENS)[1:]],
        "problem jsonl/train/71 has ",
    ),
    "no such model": (lambda _: ["train", EXAMPLE, *sets(**{"model.name": "smollm"})], "smollm2-135m"),
    "a model without the targets": (without_targets, "down_proj"),
    "no room for the prompt": (lambda _: ["train", EXAMPLE, *sets(**{"model.max_length": "8"})], "model.max_length"),
    "vllm without actors": (lambda _: ["train", EXAMPLE, *sets(**{"rollout.engine": "vllm"})], "runtime"),
    "no adapter to evaluate": (lambda t: ["eval", EXAMPLE, "--adapter", str(t / "missing")], "missing"),
    "no run to export": (lambda t: ["export", str(t), "--out", str(t / "out")], "adapter_model.safetensors"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_line_that_says_what_and_exit_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, expected = MISTAKES[mistake]
    result = rankone(*arguments(tmp_path))
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.strip() and "Loading weights" not in line]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("rankone: ")
    assert expected in lines[0]
    assert "Traceback" not in result.output


def test_a_run_is_not_written_over_and_none_is_resumed_where_there_is_none(
    finished: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = finished
    before = (out / "metrics.jsonl").read_text()
    again = train(out)
    assert (again.exit_code, "--resume" in again.stderr) == (2, True)
    assert (out / "metrics.jsonl").read_text() == before
    monkeypatch.chdir(tmp_path)
    nothing = rankone("train", EXAMPLE, "--resume")
    assert (nothing.exit_code, "no run named 'tiny'" in nothing.stderr) == (2, True)


def test_ranks_above_8_are_for_those_who_ask(tmp_path: Path) -> None:
    result = train(tmp_path / "run", **{"lora.rank": "9", "lora.allow_large_rank": "true", "num_steps": "0"})
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("command", [[], ["train"], ["eval"], ["export"], ["grade"], ["reward"], ["reward", "try"]])
def test_every_command_explains_itself(command: list[str]) -> None:
    result = rankone(*command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output


# --- ending ---


def with_mark(mark: str) -> list[int]:
    """Processes whose environment holds `mark`: the run's own, and every one that it started."""
    found: list[int] = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in environment.read_bytes():
                found.append(int(environment.parent.name))
        except OSError:
            continue
    return found


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


@pytest.mark.parametrize(("runtime", "ending"), [("local", signal.SIGINT), ("ray", signal.SIGTERM)])
def test_a_run_that_is_interrupted_leaves_a_usable_directory_and_no_process(
    tmp_path: Path, runtime: str, ending: signal.Signals
) -> None:
    """It is started beside a reward file that has the name of a package of ours, where Ray's processes look first."""
    out, mark = tmp_path / "run", uuid.uuid4().hex
    (tmp_path / "rewards.py").write_text(REWARD)
    reward = {"reward.function": str(tmp_path / "rewards.py") + ":digits"}
    command = [
        sys.executable, "-m", "rl.cli", "train", EXAMPLE, "--out", str(out),
        *sets(**SMALL | reward | {"num_steps": "100000", "runtime": runtime}),
    ]  # fmt: skip
    environment = os.environ | {"MARK": mark, "PYTHONPATH": str(ROOT)}
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: (out / "metrics.jsonl").exists() and len(steps(out)) > 3, 300)
        assert len(with_mark(mark)) > 1
        process.send_signal(ending)
        assert process.wait(timeout=90) == 130
        wait_until(lambda: with_mark(mark) == [], 60)
    finally:
        for pid in with_mark(mark):
            os.kill(pid, signal.SIGKILL)
        process.wait()
    said = (tmp_path / "output").read_text()
    assert "--resume" in said
    assert "Traceback" not in said
    done = steps(out)
    assert done == list(range(len(done)))
    assert (out / "curve.png").exists()
    assert read_peft(out / "adapters" / "last")
    if runtime == "local":
        resumed = train(out, "--resume", **reward, num_steps=str(len(done) + 2))
        assert resumed.exit_code == 0, resumed.output
        assert steps(out) == list(range(len(done) + 3))
