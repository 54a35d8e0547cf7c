"""Checkpoints: whole or not there; what is damaged is passed over."""

import contextlib
import itertools
import logging
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rl.run.checkpoint import KEEP, Checkpoint, best, newest, save, save_best


def changed(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda checkpoint: checkpoint.write_bytes(change(checkpoint.read_bytes())) and None


def flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(checkpoint: Path) -> None:
        checkpoint.unlink()
        make(checkpoint)

    return replace


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a flipped bit": changed(lambda content: flip(content, len(content) - 99)),
    "another step": changed(lambda content: content.replace(b'"step": 2', b'"step": 3')),
    "a cut state": changed(lambda content: content[:-1]),
    "a longer state": changed(lambda content: content + b"x"),
    "no state": changed(lambda content: content.partition(b"\n")[0]),
    "nothing in it": changed(lambda _: b""),
    "a cut description": changed(lambda _: b'{"step": 2, "sha'),
    "no checksum": changed(lambda _: b'{"step": 2}\nstate'),
    "a description that is a list": changed(lambda _: b"[]\nstate"),
    "a binary description": changed(lambda _: b"\xff\xfe"),
    "a description of brackets": changed(lambda _: b"[" * 100_000),
    "a step that is text": changed(lambda content: content.replace(b'"step": 2', b'"step": "2"')),
    "a directory in its place": replaced(Path.mkdir),
    "a FIFO in its place": replaced(os.mkfifo),
    "a device in its place": replaced(lambda checkpoint: checkpoint.symlink_to("/dev/zero")),
    "a link to nothing in its place": replaced(lambda checkpoint: checkpoint.symlink_to("nowhere")),
    "a link to itself in its place": replaced(lambda checkpoint: checkpoint.symlink_to(checkpoint)),
}


def state(step: int) -> bytes:
    return f"state {step}".encode() * 100


def test_what_was_in_flight_is_kept_and_covered_by_the_checksum(tmp_path: Path) -> None:
    save(tmp_path, Checkpoint(2, state(2)))
    saved = save(tmp_path, Checkpoint(3, state(3), (17, 20)))
    assert newest(tmp_path) == Checkpoint(3, state(3), (17, 20))
    content = saved.read_bytes()
    for damaged in (b"[17, 21]", b"[17]", b"17", b"[]", b"null"):
        saved.write_bytes(content.replace(b"[17, 20]", damaged))
        assert newest(tmp_path) == Checkpoint(2, state(2)), damaged
    saved.write_bytes(content.replace(b', "unlearned": [17, 20]', b""))
    assert newest(tmp_path) == Checkpoint(2, state(2))


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


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew_by_itself(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, Checkpoint(step, state(step))).write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"none of the 2 checkpoints .* can be read"):
        newest(tmp_path)


def test_the_newest_is_so_by_its_number_and_other_files_are_none(tmp_path: Path) -> None:
    for other in ("step-copy", "step-\u00b2"):
        (tmp_path / other).write_text("")
    for step in (999_999, 1_000_000):
        save(tmp_path, Checkpoint(step, state(step)))
    assert newest(tmp_path) == Checkpoint(1_000_000, state(1_000_000))


def test_a_damaged_checkpoint_is_replaced_when_its_step_is_done_again(tmp_path: Path) -> None:
    save(tmp_path, Checkpoint(2, state(2)))
    DAMAGE["a flipped bit"](tmp_path / "step-000002")
    save(tmp_path, Checkpoint(2, state(3)))
    assert newest(tmp_path) == Checkpoint(2, state(3))


def test_a_checkpoint_is_whole_at_every_moment_however_often_its_writer_is_killed(tmp_path: Path) -> None:
    """Also the best one, which has one place for all of them."""
    rng = random.Random(0)
    save(tmp_path, Checkpoint(0, state(0)))
    save_best(tmp_path, Checkpoint(0, state(0)))
    for _ in range(20):
        child = os.fork()
        if child == 0:  # no test code may run in here
            with contextlib.suppress(BaseException):
                for step in itertools.count(1):
                    save(tmp_path, Checkpoint(step % 50, state(step % 50)))
                    save_best(tmp_path, Checkpoint(step, state(step)))
            os._exit(1)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        for found in (newest(tmp_path), best(tmp_path)):
            assert found is not None
            assert found.state == state(found.step)
    whole = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert len(whole) <= KEEP + 2, "a kill between writing and removing leaves one more"
