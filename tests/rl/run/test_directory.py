"""A run's files: what is written is read back, a step done again is written once, and a kill spoils one line at most."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.fakes import RIGHT, WRONG, problem
from hypothesis import given
from hypothesis import strategies as st

from lora.config import LoraConfig, ModelConfig
from lora.peft.files import read_peft, unpack
from lora.types import Adapter
from rl.algorithm.evaluation.held_out import Evaluation
from rl.config import LearnerConfig, RunConfig
from rl.run import checkpoint
from rl.run.checkpoint import Checkpoint
from rl.run.directory import RunDirectory, check_kinds
from rl.run.journal import FileJournal
from rl.run.sinks import Sinks
from rl.settings.toml import load_config
from rl.types import Group, Learner
from rollout.config import RolloutConfig
from rollout.types import Completion


class LearnerOfBytes(Learner):
    """Its whole state is a few bytes."""

    held = b"fresh"

    async def state(self) -> bytes:
        return self.held

    async def load_state(self, state: bytes) -> None:
        self.held = state


def group(right: int = 1) -> Group:
    completions = [Completion((3,), (-1.0,), f"text {i}", "stop", 7) for i in range(2)]
    return Group(problem(), [1, 2], completions, [RIGHT, RIGHT] if right == 2 else [RIGHT, WRONG])


def evaluation(accuracy: float) -> Evaluation:
    return Evaluation(accuracy, accuracy, accuracy, [group()])


def journal(directory: RunDirectory, *, resume: bool = False, max_samples: int = 32) -> FileJournal:
    return FileJournal(directory, Sinks([]), resume=resume, max_samples=max_samples)


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", RunConfig(name="kept", num_steps=7))


@pytest.fixture(scope="module")
def adapters(make_adapter: object) -> list[Adapter]:
    model = ModelConfig(name="tiny-random", dtype="float32")
    return [make_adapter(model, LoraConfig(), version=v, seed=v) for v in range(3)]  # type: ignore[operator]


def test_a_runs_configuration_is_read_back(directory: RunDirectory) -> None:
    assert load_config(directory.path / "config.toml", []) == RunConfig(name="kept", num_steps=7)
    assert RunDirectory.open(directory.path).path == directory.path


def test_a_run_is_never_written_over(directory: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--resume"):
        RunDirectory.create(directory.path, RunConfig())
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write"):
        RunDirectory.create(tmp_path / "file" / "run", RunConfig())
    with pytest.raises(ValueError, match="holds no run"):
        RunDirectory.open(tmp_path)


def test_metrics_and_curve_are_read_back(directory: RunDirectory) -> None:
    writer = journal(directory)
    for step in range(4):
        writer.on_step(step, {"reward/mean": step / 4} | ({"eval/accuracy": step / 8} if step % 2 else {}), [])
    assert [row["step"] for row in directory.metrics()] == [0, 1, 2, 3]
    assert [row["reward/mean"] for row in directory.metrics()] == [0, 0.25, 0.5, 0.75]
    assert directory.curve() == [(1, 0.125), (3, 0.375)]


def test_samples_say_what_was_written_and_what_it_was_worth_and_stay_few(directory: RunDirectory) -> None:
    writer = journal(directory, max_samples=3)
    writer.on_step(4, {}, [group(), group()])
    rows = [json.loads(line) for line in directory.samples_file.read_text().splitlines()]
    assert len(rows) == 3
    assert rows[0] == {
        "step": 4, "split": "train", "problem": "p", "question": "question p", "answer": "1", "completion": "text 0",
        "reward": 1.0, "outcome": "correct", "policy_version": 7,
    }  # fmt: skip


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(0, 10), st.integers(0, 60))
def test_forgetting_leaves_exactly_the_whole_lines_before_a_step(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], first: int, cut: int
) -> None:
    directory = RunDirectory(tmp_path_factory.mktemp("run"))
    lines = "".join(json.dumps({"step": step, "x": 1.5}) + "\n" for step in steps)
    whole = [json.loads(line) for line in lines[: max(0, len(lines) - cut)].split("\n") if line.endswith("}")]
    directory.metrics_file.write_text(lines[: max(0, len(lines) - cut)])
    directory.truncate_from(first)
    assert directory.metrics() == [row for row in whole if row["step"] < first]


async def test_a_line_cut_off_by_a_kill_spoils_no_other(directory: RunDirectory) -> None:
    for step in (0, 1):
        journal(directory).on_step(step, {"reward/mean": 0.5}, [group()])
    for file in (directory.metrics_file, directory.samples_file):
        file.write_bytes(file.read_bytes()[:-9])
    checkpoint.save(directory.checkpoints, Checkpoint(1, b"state"))
    resumed = journal(directory, resume=True)
    assert await resumed.restore(LearnerOfBytes()) == 1
    resumed.on_step(1, {"reward/mean": 0.25}, [group()])
    assert [(row["step"], row["reward/mean"]) for row in directory.metrics()] == [(0, 0.5), (1, 0.25)]
    samples = [json.loads(line)["step"] for line in directory.samples_file.read_text().splitlines()]
    assert samples == [0, 0, 1, 1]


async def test_a_resumed_run_goes_on_from_the_newest_checkpoint_and_a_new_one_from_nothing(
    directory: RunDirectory, adapters: list[Adapter]
) -> None:
    learner = LearnerOfBytes()
    assert await journal(directory, resume=True).restore(learner) == 0
    assert learner.held == b"fresh"
    learner.held = b"after three"
    await journal(directory).checkpoint(3, adapters[1], learner)
    resumed = LearnerOfBytes()
    assert await journal(directory, resume=True).restore(resumed) == 3
    assert resumed.held == b"after three"
    assert payload(directory, "last") == weights(adapters[1])


def weights(adapter: Adapter) -> dict[str, list[list[float]]]:
    return {name: tensor.tolist() for name, tensor in unpack(adapter.payload)[0].items()}


def payload(directory: RunDirectory, which: str) -> dict[str, list[list[float]]]:
    return weights(read_peft(directory.adapters / which))


async def test_the_best_adapter_is_kept_when_later_ones_are_worse_or_the_run_is_resumed(
    directory: RunDirectory, adapters: list[Adapter]
) -> None:
    writer, learner = journal(directory), LearnerOfBytes()
    for step, (adapter, accuracy) in enumerate(zip(adapters, (0.25, 0.75, 0.5), strict=True)):
        await writer.on_eval(step, adapter, evaluation(accuracy), learner)
        writer.on_step(step, evaluation(accuracy).metrics(), [])
    assert payload(directory, "best") == weights(adapters[1])
    assert payload(directory, "last") == weights(adapters[2])
    checkpoint.save(directory.checkpoints, Checkpoint(3, b""))
    resumed = journal(directory, resume=True)
    await resumed.restore(LearnerOfBytes())
    await resumed.on_eval(3, adapters[0], evaluation(0.6), learner)
    assert payload(directory, "best") == weights(adapters[1])
    await resumed.on_eval(4, adapters[2], evaluation(0.8), learner)
    assert payload(directory, "best") == weights(adapters[2])


async def test_a_run_rolls_back_to_the_state_of_its_best_policy(
    directory: RunDirectory, adapters: list[Adapter]
) -> None:
    writer, learner = journal(directory), LearnerOfBytes()
    assert not await writer.roll_back(learner)
    for step, (adapter, accuracy) in enumerate(zip(adapters, (0.25, 0.75, 0.5), strict=True)):
        learner.held = f"state {step}".encode()
        await writer.on_eval(step, adapter, evaluation(accuracy), learner)
        await writer.checkpoint(step, adapter, learner)
    assert await writer.roll_back(learner)
    assert learner.held == b"state 1"
    newest = checkpoint.newest(directory.checkpoints)
    assert newest is not None
    assert newest.state == b"state 2", "a roll-back is no checkpoint yet: that comes when the step is done"


async def test_what_a_kill_left_half_written_is_removed(directory: RunDirectory, adapters: list[Adapter]) -> None:
    writer, learner = journal(directory), LearnerOfBytes()
    await writer.on_eval(0, adapters[0], evaluation(0.5), learner)
    await writer.checkpoint(1, adapters[0], learner)
    (directory.adapters / ".best-x").mkdir()
    halves = (
        directory.checkpoints / ".step-000002-x",
        directory.adapters / "last" / ".x",
        directory.path / ".config.toml-x",
    )
    for half in (*halves, directory.adapters / ".best-x" / "adapter_model.safetensors"):
        half.write_bytes(b"half")
    assert await journal(directory, resume=True).restore(learner) == 1
    assert not [path for path in directory.path.rglob(".*") if path.name != ".lock"]
    assert payload(directory, "best") == weights(adapters[0])


def test_a_run_that_is_resumed_with_other_settings_says_which_and_keeps_them(directory: RunDirectory) -> None:
    assert directory.reconfigure(RunConfig(name="kept", num_steps=7)) == []
    (change,) = directory.reconfigure(RunConfig(name="kept", num_steps=9))
    assert change == "num_steps is 9 from now on, and was 7"
    assert load_config(directory.path / "config.toml", []) == RunConfig(name="kept", num_steps=9)


@pytest.mark.parametrize(
    "other",
    [
        {"lora": LoraConfig(rank=4)},
        {"lora": LoraConfig(alpha=16)},
        {"model": ModelConfig(name="tiny-random")},
        {"learner": LearnerConfig(weights="full"), "rollout": RolloutConfig(engine="torch")},
    ],
)
def test_a_run_is_not_resumed_as_another_policy(directory: RunDirectory, other: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"cannot go on as another policy: (lora|model|learner)\..* was "):
        directory.reconfigure(RunConfig(name="kept", num_steps=7).model_copy(update=other))
    assert load_config(directory.path / "config.toml", []) == RunConfig(name="kept", num_steps=7)


def test_settings_of_another_version_of_the_program_do_not_keep_a_run_from_going_on(directory: RunDirectory) -> None:
    (directory.path / "config.toml").write_text("of_old = 1")
    assert directory.reconfigure(RunConfig(name="kept")) == []
    assert load_config(directory.path / "config.toml", []) == RunConfig(name="kept")


def test_a_directory_is_written_to_by_one_run_at_a_time(directory: RunDirectory) -> None:
    hold = f"""
import sys
from pathlib import Path
from rl.run.directory import RunDirectory
with RunDirectory.open(Path({str(directory.path)!r})).locked():
    print("held", flush=True)
    sys.stdin.read()
"""
    with directory.locked():
        pass
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"process {other.pid} on .*--out"), directory.locked():
            pass
        other.kill()
    with directory.locked():
        pass


WRONG_KINDS = {
    **dict.fromkeys(("config.toml", "metrics.jsonl", "samples.jsonl", ".lock", "curve.png"), "directory"),
    **dict.fromkeys(("adapters", "checkpoints", "tensorboard"), "file"),
    "checkpoints/step-000001": "directory",
}


@pytest.mark.parametrize("name", WRONG_KINDS)
def test_something_else_in_the_place_of_a_part_of_a_run_is_refused_before_anything_is_done(
    directory: RunDirectory, name: str
) -> None:
    part = directory.path / name
    part.parent.mkdir(exist_ok=True)
    part.unlink(missing_ok=True)
    part.mkdir() if WRONG_KINDS[name] == "directory" else part.touch()
    with pytest.raises(ValueError, match=f"{name} cannot be a run's: it is .*--out"), directory.locked():
        pass
    if "/" not in name:
        with pytest.raises(ValueError, match=f"{name} .*--out"):
            RunDirectory.create(directory.path, RunConfig()) if name == "config.toml" else check_kinds(directory.path)


async def test_lines_that_are_no_rows_do_not_keep_a_run_from_going_on(
    directory: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (0, 1):
        journal(directory).on_step(step, {"reward/mean": 0.5}, [group()])
    for file in (directory.metrics_file, directory.samples_file):
        with file.open("a") as sink:
            sink.write('[1]\nnull\n{"a": 1}\n{"step": "text"}\n')
    checkpoint.save(directory.checkpoints, Checkpoint(2, b"state"))
    resumed = journal(directory, resume=True)
    assert await resumed.restore(LearnerOfBytes()) == 2
    assert [row["step"] for row in directory.metrics()] == [0, 1]
    assert len([message for message in caplog.messages if "4 lines are no rows" in message]) == 2
    assert "[1]" not in directory.metrics_file.read_text() + directory.samples_file.read_text()


async def test_metrics_that_somebody_shortened_are_missed(
    directory: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    journal(directory).on_step(0, {"reward/mean": 0.5}, [])
    checkpoint.save(directory.checkpoints, Checkpoint(3, b"state"))
    with caplog.at_level(logging.WARNING):
        assert await journal(directory, resume=True).restore(LearnerOfBytes()) == 3
    assert "metrics.jsonl lacks 2 steps, the first 1" in caplog.text
