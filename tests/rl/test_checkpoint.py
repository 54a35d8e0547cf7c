"""Checkpoints: whole or not there; what is damaged is passed over."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rl.checkpoint import KEEP, Checkpoint, newest, save


def damage_state(checkpoint: Path) -> None:
    state = bytearray((checkpoint / "state.safetensors").read_bytes())
    state[len(state) // 2] ^= 1
    (checkpoint / "state.safetensors").write_bytes(state)


def cut_state(checkpoint: Path) -> None:
    (checkpoint / "state.safetensors").write_bytes((checkpoint / "state.safetensors").read_bytes()[:-1])


def lose_state(checkpoint: Path) -> None:
    (checkpoint / "state.safetensors").unlink()


def write(content: bytes) -> Callable[[Path], None]:
    return lambda checkpoint: (checkpoint / "checkpoint.json").write_bytes(content) and None


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a flipped bit": damage_state,
    "a cut state": cut_state,
    "no state": lose_state,
    "no description": lambda checkpoint: (checkpoint / "checkpoint.json").unlink(),
    "a cut description": write(b'{"step": 2, "sha'),
    "no checksum": write(b'{"step": 2}'),
    "a description that is a list": write(b"[]"),
    "a binary description": write(b"\xff\xfe"),
}


def state(step: int) -> bytes:
    return f"state {step}".encode() * 100


def test_what_was_saved_last_is_the_newest(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    assert newest(tmp_path / "missing") is None
    for step in (1, 2, 10, 9):
        save(tmp_path, Checkpoint(step, state(step)))
    assert newest(tmp_path) == Checkpoint(10, state(10))


def test_only_the_newest_few_are_kept(tmp_path: Path) -> None:
    for step in range(1, 8):
        save(tmp_path, Checkpoint(step, state(step)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{step:06d}" for step in range(8 - KEEP, 8)]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it_and_named(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        save(tmp_path, Checkpoint(step, state(step)))
    DAMAGE[damage](tmp_path / "step-000002")
    with caplog.at_level(logging.WARNING):
        assert newest(tmp_path) == Checkpoint(1, state(1))
    assert "step-000002" in caplog.text


def test_a_damaged_checkpoint_is_replaced_when_its_step_is_done_again(tmp_path: Path) -> None:
    save(tmp_path, Checkpoint(2, state(2)))
    damage_state(tmp_path / "step-000002")
    save(tmp_path, Checkpoint(2, state(3)))
    assert newest(tmp_path) == Checkpoint(2, state(3))


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from rl import checkpoint

def half(path, content):
    path.write_bytes(content[: len(content) // 2])
    os.kill(os.getpid(), signal.SIGKILL)

checkpoint._write = half
checkpoint.save(Path(sys.argv[1]), checkpoint.Checkpoint(2, b"state 2" * 100))
"""


def test_a_half_written_checkpoint_is_never_found(tmp_path: Path) -> None:
    save(tmp_path, Checkpoint(1, state(1)))
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 2  # noqa: PTH208
    assert newest(tmp_path) == Checkpoint(1, state(1))
